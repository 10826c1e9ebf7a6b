#include <nanobind/stl/string.h>

#include "bind/bindings.h"
#include "bind/docs.h"
#include "bind/options.h"
#include "build/build.h"
#include "core/gil.h"
#include "core/refs.h"
#include "understudy/files.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

void save(nb::handle state, nb::handle path, nb::handle metadata, bool allow_pickle,
          const std::string& writer) {
  Entry entry;
  const auto file = path_of(path);
  const SaveFileOptions options{.metadata = file_metadata_of(metadata),
                                .writer = writer_of(writer)};
  const Value value = Walker({.purpose = Purpose::disk, .allow_pickle = allow_pickle}).walk(state);
  WithoutGil no_gil;
  save_file(value, file, options);
}

nb::object load(nb::handle path, nb::handle names, bool mmap, bool verify, bool allow_pickle) {
  Entry entry;
  const auto file = path_of(path);
  const LoadFileOptions options{
      .names = names_of(names), .mmap = mmap, .verify = verify, .allow_pickle = allow_pickle};
  const Value value = [&] {
    WithoutGil no_gil;
    return load_file(file, options);
  }();
  return Builder({.allow_pickle = allow_pickle}).build(value);
}

}  // namespace

void bind_files(nb::module_& m) {
  m.def("save_file", &save, nb::arg("state").none(), nb::arg("path"), nb::kw_only(),
        nb::arg("metadata") = nb::none(), nb::arg("allow_pickle") = false,
        nb::arg("writer") = "auto", docs::kSaveFile);
  m.def("load_file", &load, nb::arg("path"), nb::kw_only(), nb::arg("names") = nb::none(),
        nb::arg("mmap") = false, nb::arg("verify") = true, nb::arg("allow_pickle") = false,
        docs::kLoadFile);
}

}  // namespace understudy::python
