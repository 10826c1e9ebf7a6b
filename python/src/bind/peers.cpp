#include "bind/peers.h"

#include "core/errors.h"
#include "core/gil.h"
#include "core/refs.h"

namespace understudy::python {

std::shared_ptr<PyPeers> PyPeers::join(nb::handle group, double timeout) {
  nb::object joined = nb::module_::import_("understudy._peers").attr("join")(group, timeout);
  if (joined.is_none()) return nullptr;
  return std::shared_ptr<PyPeers>(new PyPeers(std::move(joined)));
}

PyPeers::PyPeers(nb::object object)
    : object_(hold(object)),
      rank_(nb::cast<int>(object.attr("rank"))),
      count_(nb::cast<int>(object.attr("count"))) {}

std::vector<std::optional<std::string>> PyPeers::exchange(const Exchange& which,
                                                          const std::string& mine) {
  const std::chrono::duration<double> left = which.deadline - std::chrono::steady_clock::now();
  WithGil gil;
  try {
    const nb::object given = object().attr("exchange")(static_cast<int>(which.lane), which.number,
                                                       static_cast<int>(which.want), left.count(),
                                                       nb::bytes(mine.data(), mine.size()));
    std::vector<std::optional<std::string>> messages;
    for (const nb::handle message : given) {
      auto& taken = messages.emplace_back();
      if (message.is_none()) continue;
      char* data = nullptr;
      Py_ssize_t length = 0;
      throw_if(PyBytes_AsStringAndSize(message.ptr(), &data, &length) != 0);
      taken.emplace(data, static_cast<std::size_t>(length));
    }
    return messages;
  } catch (const nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;  // Ctrl-C
    fail(ErrorCode::io, "{} could not be exchanged with the other ranks: {}", which.what,
         text_of(nb::str(error.value())));
  }
}

Error as_error(const nb::python_error& error) {
  return {ErrorCode::invalid,
          fmt::format("{}: {}", name_of_type(error.type()), text_of(nb::str(error.value())))};
}

void PyPeers::leave(bool waits) const {
  object().attr("leave")(waits);
}

void PyPeers::end() const {
  object().attr("end")();
}

}  // namespace understudy::python
