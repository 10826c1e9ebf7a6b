#include "vm/memory_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace understudy::vm {
namespace {

using Kind = MappedRange::Kind;

constexpr const char* kText =
    "10000-20000 rw-p 00000000 00:00 0 \n"
    "20000-30000 rw-p 00000000 00:00 0                          [heap]\n"
    "30000-40000 rw-s 00000000 00:01 1077                       /memfd:x (deleted)\n"
    "50000-60000 rw-p 00001000 fe:00 4711                       /a file with blanks\n"
    "60000-70000 r--p 00000000 00:00 0 \n"
    "70000-80000 rw-p 00000000 00:00 0                          [stack]\n"
    "80000-90000 rw-p 00000000 00:00 0                          [anon:torch]\n"
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0    [vsyscall]\n";

TEST(MemoryMapTest, KindsAreToldApart) {
  const auto all = MemoryMap::of_text(kText).all();
  std::vector<Kind> kinds;
  for (const auto& m : all) kinds.push_back(m.kind);
  EXPECT_EQ(kinds, (std::vector{Kind::anonymous, Kind::anonymous, Kind::shared, Kind::file,
                                Kind::special, Kind::special, Kind::anonymous, Kind::special}));
  EXPECT_EQ(all[1].begin, 0x20000U);
  EXPECT_EQ(all[1].end, 0x30000U);
}

TEST(MemoryMapTest, CoveringMayTakeSeveralAndHasNoHoles) {
  const auto mappings = MemoryMap::of_text(kText);
  EXPECT_EQ(mappings.covering(0x10000, 0x20000).size(), 1U);
  EXPECT_EQ(mappings.covering(0x1f000, 0x21000).size(), 2U);
  EXPECT_EQ(mappings.covering(0x15000, 0x40000).size(), 3U);
  EXPECT_TRUE(mappings.covering(0x3f000, 0x51000).empty()) << "a hole";
  EXPECT_TRUE(mappings.covering(0x1000, 0x11000).empty());
  EXPECT_TRUE(mappings.covering(0x8f000, 0x91000).empty());
  EXPECT_TRUE(MemoryMap::of_text("").covering(0x1000, 0x2000).empty());
}

TEST(MemoryMapTest, ThisProcessHasWhatItMapped) {
  constexpr std::size_t kNbytes = 1 << 20;
  auto* const data =
      ::mmap(nullptr, kNbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const auto at = reinterpret_cast<std::uintptr_t>(data);
  const auto mappings = MemoryMap::of_this_process();
  const auto found = mappings.covering(at, at + kNbytes);
  ASSERT_FALSE(found.empty());
  EXPECT_EQ(found[0].kind, Kind::anonymous);
  ::munmap(data, kNbytes);
  EXPECT_TRUE(MemoryMap::of_this_process().covering(at, at + kNbytes).empty());
}

}  // namespace
}  // namespace understudy::vm
