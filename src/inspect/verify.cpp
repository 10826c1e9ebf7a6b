#include "store/verify.h"

#include "inspect/resolve.h"
#include "understudy/inspect.h"

namespace understudy {

VerifyReport verify(const std::filesystem::path& path, Progress progress, void* context) {
  const auto target = inspect::resolve(path);
  store::OnProgress on_progress;
  if (progress != nullptr) {
    on_progress = [=](std::uint64_t done, std::uint64_t total) { progress(context, done, total); };
  }
  auto check = target.step ? store::verify_step(target.path, on_progress)
                           : store::verify_file(target.path, on_progress);
  VerifyReport report;
  report.path = target.path;
  report.nbytes = check.nbytes;
  report.has_checksums = check.has_checksums;
  for (auto& found : check.damage) {
    report.damage.push_back({std::move(found.file), found.offset, std::move(found.what)});
  }
  return report;
}

}  // namespace understudy
