#include "store/verify.h"

#include "base/error.h"
#include "inspect/resolve.h"
#include "understudy/inspect.h"

namespace understudy {

namespace {

VerifyReport report_of(const inspect::Target& target, store::FileCheck check) {
  VerifyReport report;
  report.path = target.path;
  report.nbytes = check.nbytes;
  report.has_checksums = check.has_checksums;
  for (auto& found : check.damage) {
    report.damage.push_back({std::move(found.file), found.offset, std::move(found.what)});
  }
  return report;
}

}  // namespace

VerifyReport verify(const std::filesystem::path& path, Progress progress, void* context) {
  store::OnProgress on_progress;
  if (progress != nullptr) {
    on_progress = [=](std::uint64_t done, std::uint64_t total) { progress(context, done, total); };
  }
  return inspect::with_target(path, [&](const inspect::Target& target) {
    auto check = target.step ? store::verify_step(*target.step, on_progress)
                             : store::verify_file(target.path, on_progress);
    if (!check.damage.empty() && inspect::has_gone(target)) {
      fail(ErrorCode::corrupt, "{} went while it was verified", target.path.native());
    }
    return report_of(target, std::move(check));
  });
}

}  // namespace understudy
