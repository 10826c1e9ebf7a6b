// 1. Each tensor's coverage is found; equal coverages are one.
// 2. Coverages whose spans overlap make a group; nearly always a group is one
//    dense coverage, and its extent is its span.
// 3. A group of several with holes is split again by the bytes really touched:
//    columns of one matrix are neighbours, not sharers.
// 4. What remains together is one extent: gathered when it touches less than
//    half of its span and every tensor stays a strided view, else its span with
//    the holes left zero.
#include "value/extents.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "value/coverage.h"

namespace understudy::value {
namespace {

// Runs that a group may be taken apart into. Beyond it the list of runs would
// cost more memory than the holes it saves; the span is kept instead.
constexpr std::uint64_t kMaxRuns = 1u << 16;

// Runs of views that overlap themselves in no order, in all; they can only be copied
// one by one. A few bytes can have as many of them as their shape says, so that there
// must be an end: this many take 400 MB.
constexpr std::uint64_t kMaxIrregularRuns = 1u << 24;

// One distinct coverage and the tensors that have it.
struct Member {
  Coverage coverage;
  std::vector<std::uint32_t> tensors;
};

// Where an address of the source goes in its extent.
using Map = std::function<std::uint64_t(Address)>;

class Finder {
 public:
  explicit Finder(const std::vector<const Tensor*>& tensors) : tensors_(tensors) {
    result_.placements.resize(tensors.size());
  }

  Extents find() {
    auto members = collect();
    for (std::size_t i = 0; i < members.size();) {
      Address end = members[i].coverage.end();
      std::size_t j = i + 1;
      while (j < members.size() && members[j].coverage.begin < end) {
        end = std::max(end, members[j++].coverage.end());
      }
      add_group({members.begin() + static_cast<std::ptrdiff_t>(i),
                 members.begin() + static_cast<std::ptrdiff_t>(j)});
      i = j;
    }
    sort_by_appearance();
    return std::move(result_);
  }

 private:
  using Group = std::vector<Member>;

  std::vector<Member> collect() {
    std::vector<Member> members;
    members.reserve(tensors_.size());
    for (std::uint32_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i]->numel() == 0) {
        add_empty(i);
      } else {
        members.push_back({cover(*tensors_[i]), {i}});
      }
    }
    // Equal coverages become neighbours; the first to appear comes first.
    std::stable_sort(members.begin(), members.end(), [](const Member& a, const Member& b) {
      return std::pair(a.coverage.begin, b.coverage.end()) <
             std::pair(b.coverage.begin, a.coverage.end());
    });
    std::vector<Member> distinct;
    for (auto& m : members) {
      if (!distinct.empty() && distinct.back().coverage == m.coverage) {
        distinct.back().tensors.push_back(m.tensors.front());
      } else {
        distinct.push_back(std::move(m));
      }
    }
    return distinct;
  }

  void add_empty(std::uint32_t tensor) {
    Extent e;
    e.alignment = alignment_of(tensor);
    result_.placements[tensor] = {next_extent(), true, 0,
                                  contiguous_strides(tensors_[tensor]->shape())};
    result_.extents.push_back(std::move(e));
  }

  void add_group(Group group) {
    const bool is_dense = std::all_of(group.begin(), group.end(),
                                      [](const Member& m) { return m.coverage.is_dense(); });
    if (is_dense) return add_span(group);
    if (group.size() == 1 && group[0].coverage.is_regular) return add_single(group);
    std::uint64_t run_count = 0;
    for (const auto& m : group) {
      run_count = checked_add(run_count, m.coverage.run_count()).value_or(~std::uint64_t{0});
    }
    const bool is_regular = std::all_of(group.begin(), group.end(),
                                        [](const Member& m) { return m.coverage.is_regular; });
    // Irregular runs can only be copied one by one, however many they are.
    if (run_count > kMaxRuns && is_regular) return add_span(group);
    if (!is_regular &&
        (irregular_runs_ += std::min(run_count, kMaxIrregularRuns)) > kMaxIrregularRuns - 1) {
      fail(ErrorCode::unsupported, "tensors that overlap themselves in more than {} pieces",
           kMaxIrregularRuns);
    }
    for (auto& part : split(group)) {
      if (part.size() == 1 && part[0].coverage.is_regular) {
        add_single(part);
      } else {
        add_runs(part);
      }
    }
  }

  // Members that share a byte stay together.
  static std::vector<Group> split(const Group& group) {
    struct Run {
      Interval at;
      std::size_t member;
    };
    std::vector<Run> runs;
    for (std::size_t m = 0; m < group.size(); ++m) {
      std::vector<Interval> own;
      append_runs(group[m].coverage, own);
      for (const auto& at : own) runs.push_back({at, m});
    }
    std::sort(runs.begin(), runs.end(),
              [](const Run& a, const Run& b) { return a.at.begin < b.at.begin; });
    std::vector<std::size_t> root(group.size());
    std::iota(root.begin(), root.end(), 0);
    const auto find = [&](std::size_t m) {
      while (root[m] != m) m = root[m] = root[root[m]];
      return m;
    };
    Address end = 0;
    std::size_t last = 0;
    for (const auto& run : runs) {
      if (run.at.begin < end) root[find(run.member)] = find(last);
      if (run.at.end > end) {
        end = run.at.end;
        last = run.member;
      }
    }
    std::vector<Group> parts(group.size());
    for (std::size_t m = 0; m < group.size(); ++m) parts[find(m)].push_back(group[m]);
    std::erase_if(parts, [](const Group& g) { return g.empty(); });
    return parts;
  }

  static bool is_worth_gathering(std::uint64_t used, std::uint64_t span) { return used < span / 2; }

  // One regular coverage with holes.
  void add_single(const Group& group) {
    const auto& c = group[0].coverage;
    if (!is_worth_gathering(c.used_nbytes(), c.end() - c.begin)) return add_span(group);
    Copy copy = copy_of(c, 0);
    auto step = static_cast<std::int64_t>(c.run_nbytes);
    for (std::size_t k = c.dims.size(); k-- > 0;) {
      copy.destination_strides[k] = step;
      step *= copy.counts[k];
    }
    const Map map = [&](Address at) {
      std::uint64_t offset = at - c.begin, to = 0;
      for (std::size_t k = 0; k < c.dims.size(); ++k) {
        to += offset / c.dims[k].stride * static_cast<std::uint64_t>(copy.destination_strides[k]);
        offset %= c.dims[k].stride;
      }
      return to + offset;
    };
    Extent e;
    e.nbytes = c.used_nbytes();
    e.copies.push_back(copy);
    add(std::move(e), group, map);
  }

  // Several coverages that share bytes, or an irregular one: by their runs.
  void add_runs(const Group& group) {
    std::vector<Interval> runs;
    for (const auto& m : group) append_runs(m.coverage, runs);
    merge(runs);
    std::uint64_t used = 0;
    for (const auto& run : runs) used += run.end - run.begin;
    const Address begin = runs.front().begin;
    const std::uint64_t span = runs.back().end - begin;
    if (is_worth_gathering(used, span) && add_gathered(group, runs, used)) return;
    const auto lead = lead_of(group, begin);
    Extent e;
    e.nbytes = lead + span;
    e.has_gaps = used != e.nbytes;
    for (const auto& run : runs) {
      e.copies.push_back(run_copy(run, lead + (run.begin - begin)));
    }
    add(std::move(e), group, [=](Address at) { return lead + (at - begin); });
  }

  // False when some tensor would no longer be a strided view.
  bool add_gathered(const Group& group, const std::vector<Interval>& runs, std::uint64_t used) {
    std::vector<std::uint64_t> starts;
    std::uint64_t at = 0;
    for (const auto& run : runs) {
      starts.push_back(at);
      at += run.end - run.begin;
    }
    const Map map = [&](Address a) {
      const auto it = std::upper_bound(runs.begin(), runs.end(), a,
                                       [](Address x, const Interval& r) { return x < r.begin; });
      const auto i = static_cast<std::size_t>(it - runs.begin()) - 1;
      return starts[i] + (a - runs[i].begin);
    };
    for (const auto& m : group) {
      if (!stays_strided(m, map)) return false;
    }
    Extent e;
    e.nbytes = used;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      e.copies.push_back(run_copy(runs[i], starts[i]));
    }
    add(std::move(e), group, map);
    return true;
  }

  bool stays_strided(const Member& m, const Map& map) const {
    const auto& c = m.coverage;
    std::vector<std::uint64_t> steps;
    for (const auto& d : c.dims) steps.push_back(map(c.begin + d.stride) - map(c.begin));
    std::vector<Interval> runs;
    append_runs(c, runs);
    std::vector<std::uint64_t> index(c.dims.size(), 0);
    for (const auto& run : runs) {
      auto expected = map(c.begin);
      for (std::size_t k = 0; k < index.size(); ++k) expected += index[k] * steps[k];
      if (map(run.begin) != expected) return false;
      for (std::size_t k = index.size(); k-- > 0;) {
        if (++index[k] < c.dims[k].count) break;
        index[k] = 0;
      }
    }
    for (const auto t : m.tensors) {
      const auto item = item_size(tensors_[t]->dtype());
      if (map(c.begin) % item != 0) return false;
      for (const auto step : steps) {
        if (step % item != 0) return false;
      }
    }
    return true;
  }

  // The group's span as it is, holes left zero.
  void add_span(const Group& group) {
    const Address begin = group.front().coverage.begin;
    Address end = begin;
    for (const auto& m : group) end = std::max(end, m.coverage.end());
    const auto lead = lead_of(group, begin);
    Extent e;
    e.nbytes = lead + (end - begin);
    const bool is_dense = std::all_of(group.begin(), group.end(),
                                      [](const Member& m) { return m.coverage.is_dense(); });
    e.has_gaps = lead > 0 || !is_dense;
    if (is_dense) {
      e.copies.push_back(run_copy({begin, end}, lead));
    } else {
      for (const auto& m : group) {
        Copy copy = copy_of(m.coverage, lead + (m.coverage.begin - begin));
        copy.destination_strides = copy.source_strides;
        e.copies.push_back(std::move(copy));
      }
    }
    add(std::move(e), group, [=](Address at) { return lead + (at - begin); });
  }

  // Zero bytes before the first, so that wider items keep their alignment.
  std::uint64_t lead_of(const Group& group, Address begin) const {
    std::uint32_t narrow = 16, wide = 1;
    for (const auto& m : group) {
      for (const auto t : m.tensors) {
        narrow = std::min(narrow, alignment_of(t));
        wide = std::max(wide, alignment_of(t));
      }
    }
    return narrow == wide ? 0 : begin % wide;
  }

  static Copy run_copy(const Interval& run, std::uint64_t destination) {
    Copy copy;
    copy.source = reinterpret_cast<std::byte*>(run.begin);
    copy.destination = destination;
    copy.run_nbytes = run.end - run.begin;
    return copy;
  }

  static Copy copy_of(const Coverage& c, std::uint64_t destination) {
    Copy copy = run_copy({c.begin, c.begin + c.run_nbytes}, destination);
    for (const auto& d : c.dims) {
      copy.counts.push_back(static_cast<std::int64_t>(d.count));
      copy.source_strides.push_back(static_cast<std::int64_t>(d.stride));
    }
    copy.destination_strides.resize(c.dims.size());
    return copy;
  }

  void add(Extent e, const Group& group, const Map& map) {
    const auto used = e.nbytes;
    for (const auto& m : group) {
      for (const auto t : m.tensors) e.alignment = std::max(e.alignment, alignment_of(t));
    }
    bool is_covered = false;
    for (const auto& m : group) {
      for (const auto t : m.tensors) {
        auto& p = result_.placements[t];
        p = place(t, map);
        // An extent that ends off its alignment needs padding, so nothing covers it.
        p.covers = p.byte_offset == 0 && tensors_[t]->nbytes() == used && used % e.alignment == 0 &&
                   Tensor(nowhere(used), tensors_[t]->dtype(), tensors_[t]->shape(), p.strides)
                       .is_contiguous();
        is_covered = is_covered || p.covers;
      }
    }
    if (!is_covered) {
      e.nbytes = round_up(e.nbytes, std::uint64_t{e.alignment});
      e.has_gaps = e.has_gaps || e.nbytes != used;
    }
    result_.extents.push_back(std::move(e));
  }

  Placement place(std::uint32_t t, const Map& map) const {
    const auto& tensor = *tensors_[t];
    const auto item = static_cast<std::int64_t>(item_size(tensor.dtype()));
    const auto origin = reinterpret_cast<Address>(tensor.data());
    Placement p;
    p.extent = next_extent();
    p.byte_offset = map(origin);
    for (std::size_t d = 0; d < tensor.shape().size(); ++d) {
      const auto stride = tensor.strides()[d];
      if (tensor.shape()[d] == 1 || stride == 0) {
        p.strides.push_back(stride);
        continue;
      }
      const auto next = map(origin + static_cast<Address>(stride * item));
      p.strides.push_back(static_cast<std::int64_t>(next - p.byte_offset) / item);
    }
    return p;
  }

  static std::shared_ptr<const Storage> nowhere(std::uint64_t nbytes) {
    return std::make_shared<Storage>(nullptr, nbytes, nullptr);
  }

  // Extents come in the order in which their first tensor appears, whatever
  // the addresses: the same state gives the same file.
  void sort_by_appearance() {
    auto& extents = result_.extents;
    constexpr std::uint32_t kUnseen = ~0u;
    std::vector<std::uint32_t> rank(extents.size(), kUnseen);
    std::uint32_t next = 0;
    for (auto& p : result_.placements) {
      if (rank[p.extent] == kUnseen) rank[p.extent] = next++;
      p.extent = rank[p.extent];
    }
    std::vector<Extent> sorted(extents.size());
    for (std::size_t i = 0; i < extents.size(); ++i) sorted[rank[i]] = std::move(extents[i]);
    extents = std::move(sorted);
  }

  std::uint32_t next_extent() const { return static_cast<std::uint32_t>(result_.extents.size()); }

  std::uint32_t alignment_of(std::uint32_t tensor) const {
    return static_cast<std::uint32_t>(item_size(tensors_[tensor]->dtype()));
  }

  const std::vector<const Tensor*>& tensors_;
  std::uint64_t irregular_runs_ = 0;
  Extents result_;
};

}  // namespace

Extents find_extents(const std::vector<const Tensor*>& tensors) {
  return Finder(tensors).find();
}

}  // namespace understudy::value
