// What stands behind understudy.dcp.StorageWriter and StorageReader: steps in parts.
#include "understudy/parts.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <mutex>

#include "bind/bindings.h"
#include "bind/options.h"
#include "build/build.h"
#include "core/gil.h"
#include "core/refs.h"
#include "understudy/chunk.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

Dims dims_of(nb::handle numbers) {
  Dims dims;
  for (const nb::handle n : numbers) dims.push_back(nb::cast<std::int64_t>(n));
  return dims;
}

nb::tuple tuple_of(const Dims& dims) {
  nb::list list;
  for (const auto n : dims) list.append(n);
  return nb::tuple(list);
}

// Planners put what they like there: what is no path of str and int is none.
LeafPaths paths_of(nb::handle mapping) {
  LeafPaths paths;
  if (!PyDict_Check(mapping.ptr())) return paths;
  for (auto [name, way] : nb::borrow<nb::dict>(mapping)) {
    if (!PyUnicode_Check(name.ptr()) || !PyTuple_Check(way.ptr())) continue;
    LeafPath path;
    bool is_path = true;
    for (const nb::handle step : way) {
      if (PyUnicode_Check(step.ptr())) {
        path.emplace_back(text_of(step));
      } else if (PyLong_Check(step.ptr())) {
        path.emplace_back(nb::cast<std::int64_t>(step));
      } else {
        is_path = false;
      }
    }
    if (is_path) paths.emplace_back(text_of(name), std::move(path));
  }
  return paths;
}

nb::tuple tuple_of(const LeafPath& path) {
  nb::list list;
  for (const auto& step : path) {
    if (const auto* key = std::get_if<std::string>(&step)) {
      list.append(str_of(*key));
    } else {
      list.append(std::get<std::int64_t>(step));
    }
  }
  return nb::tuple(list);
}

// The leaves with a place are chunks of something larger.
Value with_chunks(const Value& leaves, nb::handle places) {
  std::map<std::string, ChunkPlace> by_name;
  for (auto [name, place] : nb::borrow<nb::dict>(places)) {
    by_name.emplace(text_of(name),
                    ChunkPlace{.shape = dims_of(place[1]), .offsets = dims_of(place[0])});
  }
  Value::Pairs pairs;
  for (const auto& [key, value] : leaves.pairs()) {
    const auto found = by_name.find(key.as_text());
    if (found != by_name.end() && value.type() != Value::Type::tensor) {
      fail(ErrorCode::unsupported, "'{}' is cut among ranks, and is no dense tensor",
           key.as_text());
    }
    pairs.emplace_back(key,
                       found == by_name.end() ? value : chunk(value.as_tensor(), found->second));
  }
  return Value::dict(std::move(pairs));
}

struct Writer {
  explicit Writer(const PartWriterOptions& options) : writer(options) {}

  nb::bytes write(nb::handle path, const std::string& mark, nb::tuple rank_and_count, int file,
                  bool is_only, nb::dict leaves, nb::dict places, nb::handle paths,
                  bool allow_pickle) {
    const Entry entry;
    const PartPlace place{.path = path_of(path),
                          .mark = mark,
                          .rank = nb::cast<int>(rank_and_count[0]),
                          .count = nb::cast<int>(rank_and_count[1]),
                          .file = file,
                          .is_only = is_only};
    const auto ways = paths_of(paths);
    const Value value = with_chunks(
        Walker({.purpose = Purpose::disk, .allow_pickle = allow_pickle}).walk(leaves), places);
    const auto report = [&] {
      const WithoutGil no_gil;
      const std::lock_guard guard(mutex);
      return writer.write(place, value, ways);
    }();
    return nb::bytes(report.data(), report.size());
  }

  PartWriter writer;
  std::mutex mutex;  // taken without the GIL
};

struct Step {
  Step(const std::filesystem::path& path, const std::string& mark, bool overwrite)
      : step(path, mark, overwrite) {}

  void commit(nb::list reports, nb::handle paths, nb::handle metadata) {
    const Entry entry;
    std::vector<std::string> texts;
    for (const nb::handle report : reports) {
      char* data = nullptr;
      Py_ssize_t length = 0;
      throw_if(PyBytes_AsStringAndSize(report.ptr(), &data, &length) != 0);
      texts.emplace_back(data, static_cast<std::size_t>(length));
    }
    const auto ways = paths_of(paths);
    const Value facts = metadata_of(metadata);
    const WithoutGil no_gil;
    const std::lock_guard guard(mutex);
    step.commit(texts, ways, facts);
  }

  void abandon() {
    const Entry entry;
    const WithoutGil no_gil;
    const std::lock_guard guard(mutex);
    step.abandon();
  }

  StepInParts step;
  std::mutex mutex;  // taken without the GIL
};

struct Reader {
  Reader(const std::filesystem::path& path, const LoadFileOptions& options)
      : reader(path, options), allow_pickle(options.allow_pickle) {}

  nb::list leaves() {
    const Entry entry;
    nb::list list;
    for (const auto& leaf : reader.leaves()) {
      list.append(nb::make_tuple(str_of(leaf.name), tuple_of(leaf.path),
                                 leaf.is_tensor ? nb::object(str_of(name(leaf.dtype))) : nb::none(),
                                 leaf.is_tensor ? nb::object(tuple_of(leaf.shape)) : nb::none()));
    }
    return list;
  }

  nb::list chunks(const std::string& name) {
    const Entry entry;
    nb::list list;
    for (const auto& box : reader.chunks(name)) {
      list.append(nb::make_tuple(tuple_of(box.offsets), tuple_of(box.sizes)));
    }
    return list;
  }

  bool has(const std::string& name) {
    const Entry entry;
    return reader.has(name);
  }

  nb::object value(const std::string& name) {
    const Entry entry;
    const Value value = [&] {
      const WithoutGil no_gil;
      const std::lock_guard guard(mutex);
      return reader.value(name);
    }();
    return Builder({.allow_pickle = allow_pickle}).build(value);
  }

  void read(nb::list names, nb::list offsets, nb::list tensors) {
    const Entry entry;
    const Value targets = Walker({.purpose = Purpose::disk}).walk(tensors);
    std::vector<BoxRead> boxes;
    for (std::size_t i = 0; i < targets.items().size(); ++i) {
      boxes.push_back({text_of(names[i]), dims_of(offsets[i]), targets.items()[i].as_tensor()});
    }
    const WithoutGil no_gil;
    const std::lock_guard guard(mutex);
    reader.read(boxes);
  }

  nb::object metadata() {
    const Entry entry;
    return Builder({}).build(reader.metadata());
  }

  PartReader reader;
  const bool allow_pickle;
  std::mutex mutex;  // taken without the GIL
};

}  // namespace

void bind_parts(nb::module_& m) {
  nb::class_<Writer>(m, "PartWriter", "Writes a rank's part of a step. Private.")
      .def(
          "__init__",
          [](Writer* self, const std::string& writer, std::optional<int> threads, nb::handle rate) {
            const Entry entry;
            new (self) Writer({.threads = threads.value_or(0),
                               .writer = writer_of(writer),
                               .max_write_rate = rate_of(rate)});
          },
          nb::kw_only(), nb::arg("writer") = "auto", nb::arg("threads") = nb::none(),
          nb::arg("max_write_rate") = nb::none())
      .def("write", &Writer::write, nb::arg("path"), nb::arg("mark"), nb::arg("rank_and_count"),
           nb::arg("file"), nb::arg("is_only"), nb::arg("leaves"), nb::arg("places"),
           nb::arg("paths").none(), nb::arg("allow_pickle"));
  nb::class_<Step>(m, "StepInParts", "A step on its way in, of several ranks. Private.")
      .def(
          "__init__",
          [](Step* self, nb::handle path, const std::string& mark, bool overwrite) {
            const Entry entry;
            const auto folder = path_of(path);
            const WithoutGil no_gil;
            new (self) Step(folder, mark, overwrite);
          },
          nb::arg("path"), nb::arg("mark"), nb::arg("overwrite"))
      .def("commit", &Step::commit, nb::arg("reports"), nb::arg("paths").none(),
           nb::arg("metadata").none())
      .def("abandon", &Step::abandon);
  nb::class_<Reader>(m, "PartReader", "Reads parts of a step. Private.")
      .def(
          "__init__",
          [](Reader* self, nb::handle path, bool verify, bool allow_pickle,
             std::optional<int> threads) {
            const Entry entry;
            const auto folder = path_of(path);
            const WithoutGil no_gil;
            new (self) Reader(
                folder,
                {.verify = verify, .allow_pickle = allow_pickle, .threads = threads.value_or(0)});
          },
          nb::arg("path"), nb::kw_only(), nb::arg("verify") = true, nb::arg("allow_pickle") = false,
          nb::arg("threads") = nb::none())
      .def("leaves", &Reader::leaves)
      .def("chunks", &Reader::chunks, nb::arg("name"))
      .def("has", &Reader::has, nb::arg("name"))
      .def("value", &Reader::value, nb::arg("name"))
      .def("read", &Reader::read, nb::arg("names"), nb::arg("offsets"), nb::arg("tensors"))
      .def("metadata", &Reader::metadata);
}

}  // namespace understudy::python
