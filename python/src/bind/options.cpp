#include "bind/options.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace understudy::python {
namespace {

template <class T>
struct Choice {
  std::string_view name;
  T value;
};

template <class T, std::size_t N>
T choose(const char* option, const std::string& name, const Choice<T> (&choices)[N]) {
  std::string names;
  for (const auto& choice : choices) {
    if (choice.name == name) return choice.value;
    names += fmt::format("{}'{}'", names.empty() ? "" : ", ", choice.name);
  }
  fail(ErrorCode::invalid, "{} is '{}', and must be one of {}", option, name, names);
}

}  // namespace

Memory memory_of(const std::string& name) {
  static constexpr Choice<Memory> kChoices[] = {{"auto", Memory::automatic},
                                                {"pageable", Memory::pageable},
                                                {"pinned", Memory::pinned},
                                                {"shared", Memory::shared}};
  return choose("memory", name, kChoices);
}

Capture capture_of(const std::string& name) {
  static constexpr Choice<Capture> kChoices[] = {{"auto", Capture::automatic},
                                                 {"blocking", Capture::blocking},
                                                 {"overlapped", Capture::overlapped}};
  return choose("capture", name, kChoices);
}

WhenBusy when_busy_of(const std::string& name) {
  static constexpr Choice<WhenBusy> kChoices[] = {
      {"wait", WhenBusy::wait}, {"skip", WhenBusy::skip}, {"error", WhenBusy::error}};
  return choose("when_busy", name, kChoices);
}

WriterChoice writer_of(const std::string& name) {
  static constexpr Choice<WriterChoice> kChoices[] = {{"auto", WriterChoice::automatic},
                                                      {"io_uring", WriterChoice::io_uring},
                                                      {"threads", WriterChoice::threads},
                                                      {"buffered", WriterChoice::buffered}};
  return choose("writer", name, kChoices);
}

std::optional<std::uint64_t> rate_of(nb::handle rate) {
  if (rate.is_none()) return {};
  double value = 0;
  if (PyBool_Check(rate.ptr()) || !nb::try_cast(rate, value) || !(value >= 1) || value > 1e18) {
    fail(ErrorCode::invalid, "max_write_rate is {}, and must be bytes a second, or None",
         text_of(nb::repr(rate)));
  }
  return static_cast<std::uint64_t>(value);
}

OnDamage on_damage_of(const std::string& name) {
  static constexpr Choice<OnDamage> kChoices[] = {{"error", OnDamage::error},
                                                  {"previous", OnDamage::previous}};
  return choose("on_damage", name, kChoices);
}

Source source_of(const std::string& name) {
  static constexpr Choice<Source> kChoices[] = {
      {"auto", Source::automatic}, {"memory", Source::memory}, {"disk", Source::disk}};
  return choose("source", name, kChoices);
}

WhenNoRoom when_no_room_of(const std::string& name) {
  static constexpr Choice<WhenNoRoom> kChoices[] = {{"error", WhenNoRoom::error},
                                                    {"go_on", WhenNoRoom::go_on}};
  return choose("when_no_room", name, kChoices);
}

Survive survive_of(nb::handle survive) {
  if (PyBool_Check(survive.ptr())) return Survive(survive.is(nb::handle(Py_True)));
  auto folder = path_of(survive);
  if (folder.empty()) fail(ErrorCode::invalid, "survive is '', and must be a bool or a folder");
  return Survive(std::move(folder));
}

std::int64_t step_of(nb::handle step) {
  if (PyBool_Check(step.ptr()) || !PyIndex_Check(step.ptr())) {
    fail(ErrorCode::invalid, "a step is an int from 0 up, not {} of type {}",
         text_of(nb::repr(step)), name_of_type(step.type()));
  }
  const auto index = steal_or_throw(PyNumber_Index(step.ptr()));
  int overflow = 0;
  const auto value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || value < 0) {
    fail(ErrorCode::invalid, "a step is an int from 0 up that fits 63 bits, not {}",
         text_of(nb::repr(step)));
  }
  return value;
}

std::optional<std::int64_t> optional_step_of(nb::handle step) {
  if (step.is_none()) return {};
  return step_of(step);
}

std::vector<std::string> names_of(nb::handle names) {
  std::vector<std::string> result;
  if (names.is_none()) return result;
  if (PyUnicode_Check(names.ptr())) return {text_of(names)};
  for (const nb::handle name : names) {
    if (!PyUnicode_Check(name.ptr())) {
      fail(ErrorCode::invalid, "names holds {}, which is no str", text_of(nb::repr(name)));
    }
    result.push_back(text_of(name));
  }
  if (result.empty()) fail(ErrorCode::invalid, "names is empty; pass None for everything");
  return result;
}

std::vector<std::string> per_rank_of(nb::handle names) {
  std::vector<std::string> result;
  if (PyUnicode_Check(names.ptr())) return {text_of(names)};
  for (const nb::handle name : names) {
    if (!PyUnicode_Check(name.ptr())) {
      fail(ErrorCode::invalid, "per_rank holds {}, which is no str", text_of(nb::repr(name)));
    }
    result.push_back(text_of(name));
  }
  return result;
}

std::vector<std::string> per_rank_in(nb::handle state, std::vector<std::string> names) {
  if (!PyDict_Check(state.ptr())) return names;
  static const std::array marked{
      nb::object(nb::module_::import_("understudy.torch").attr("RngState")).release().ptr(),
      nb::object(nb::module_::import_("understudy._per_rank").attr("PerRank")).release().ptr()};
  PyObject *key = nullptr, *part = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(state.ptr(), &position, &key, &part) != 0) {
    const auto* type = reinterpret_cast<PyObject*>(Py_TYPE(part));
    if (std::ranges::find(marked, type) == marked.end() || !PyUnicode_Check(key)) continue;
    auto name = text_of(key);
    if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

// Not by nanobind's caster: __fspath__ may be Python code, and runs inside our call here.
std::filesystem::path path_of(nb::handle path) {
  PyObject* encoded = nullptr;
  throw_if(PyUnicode_FSConverter(path.ptr(), &encoded) == 0);
  const auto held = nb::steal(encoded);
  char* data = nullptr;
  Py_ssize_t length = 0;
  throw_if(PyBytes_AsStringAndSize(encoded, &data, &length) != 0);
  return std::string(data, static_cast<std::size_t>(length));
}

Timeout timeout_of(std::optional<double> seconds) {
  if (!seconds) return {};
  if (std::isnan(*seconds)) fail(ErrorCode::invalid, "timeout is not a number");
  if (std::isinf(*seconds) && *seconds > 0) return {};
  return std::chrono::duration<double>(*seconds < 0 ? 0.0 : *seconds);
}

FileMetadata file_metadata_of(nb::handle metadata) {
  FileMetadata result;
  if (metadata.is_none()) return result;
  if (!PyDict_Check(metadata.ptr())) {
    fail(ErrorCode::invalid, "metadata is a {}, and must be a dict of str to str",
         name_of_type(metadata.type()));
  }
  for (auto [key, value] : nb::borrow<nb::dict>(metadata)) {
    if (!PyUnicode_Check(key.ptr()) || !PyUnicode_Check(value.ptr())) {
      fail(ErrorCode::invalid, "metadata holds {}: {}, and must be str to str",
           text_of(nb::repr(key)), text_of(nb::repr(value)));
    }
    result[text_of(key)] = text_of(value);
  }
  return result;
}

}  // namespace understudy::python
