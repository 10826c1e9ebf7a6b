#include "parts/report.h"

#include "base/error.h"
#include "ranks/wire.h"
#include "store/commit.h"

namespace understudy::parts {
namespace {

constexpr std::string_view kMagic = "understudy part 1";

}  // namespace

std::string encode(const Report& report) {
  std::string out;
  ranks::put_text(out, kMagic);
  for (const int n : {report.rank, report.count, report.file, report.is_whole_state ? 1 : 0}) {
    ranks::put_number(out, static_cast<std::uint64_t>(n));
  }
  ranks::put_text(out, report.name);
  ranks::put_number(out, report.nbytes);
  ranks::put_text(out, report.digest);
  ranks::put_text(out, report.skeleton);
  ranks::put_text(out, ranks::encode_outline(report.outline));
  return out;
}

Report decode_report(std::string_view bytes) {
  ranks::WireReader in(bytes);
  const auto magic = in.text();
  const auto rank = in.number(), count = in.number(), file = in.number(), is_whole = in.number();
  const auto name = in.text();
  const auto nbytes = in.number();
  const auto digest = in.text(), skeleton = in.text(), outline = in.text();
  constexpr std::uint64_t kMost = 1'000'000'000;
  if (!outline || !in.rest().empty() || *magic != kMagic || *count > kMost || *rank >= *count ||
      *file > kMost) {
    fail(ErrorCode::corrupt, "what the writer of a part reported makes no sense");
  }
  Report report{static_cast<int>(*rank), static_cast<int>(*count), static_cast<int>(*file),
                *is_whole == 1,          std::string(*name),       *nbytes,
                std::string(*digest),    std::string(*skeleton)};
  if (report.name != part_name(report.rank, report.count, report.file)) {
    fail(ErrorCode::corrupt, "rank {} reported a file of another name", report.rank);
  }
  report.outline = ranks::decode_outline(*outline, report.rank);
  return report;
}

std::string part_name(int rank, int count, int file) {
  auto name = store::shard_name(rank, count);
  if (file > 0) name.insert(name.rfind('.'), format_text("-{}", file));
  return name;
}

}  // namespace understudy::parts
