// What the decoder must not take, whatever the header's digest says.
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "format/helpers.h"
#include "format/tree.h"

namespace understudy::format {
namespace {

const std::vector<Entry> kEntries{{"w", "F32", {2, 3}, 0, 24},
                                  {"understudy.blob.0", "U8", {8}, 24, 32},
                                  {"understudy.blob.1", "U8", {3}, 32, 35},
                                  {"six", "F6_E2M3", {4}, 35, 38},
                                  {"odd", "F4", {2, 3}, 38, 41}};

Value decode(std::string_view tree) {
  TreeSource source;
  source.tensor = [](const View& view) { return Value(Tensor::zeros(view.dtype, view.shape)); };
  source.blob = [](std::uint32_t entry) { return std::string(kEntries[entry].nbytes(), 'x'); };
  return decode_tree(tree, kEntries, source, "f");
}

struct Fault {
  const char* what;
  std::string tree;
};

std::string repeated(std::string text, int count, std::string_view part, std::string_view end) {
  for (int i = 0; i < count; ++i) text += part;
  return text += end;
}

const Fault kFaults[] = {
    // JSON.
    {"not valid JSON", ""},
    {"not valid JSON", "["},
    {"not valid JSON", "1 2"},
    {"not valid JSON", "nul"},
    {"not valid JSON", "[\"l\",]"},
    {"not valid JSON", "01"},
    {"not valid JSON", "\"\xFF\""},
    {"NUL", std::string("1\0", 2)},
    {"an object", "{}"},
    {"an object", R"(["l",{}])"},
    {"no integer", "1.5"},
    {"no integer", "1e3"},
    {"no integer", "[\"l\",-9223372036854775809]"},
    {"beyond 64 bits", "9223372036854775808"},
    {"negative zero", "-0"},
    // Sizes that take more than the text is long.
    {"more than 64 dimensions", repeated("[1,\"uint8\",[1", 64, ",1", "],[1],0]")},
    {"more than 64 dimensions", repeated("[1,\"uint8\",[1],[1", 64, ",1", "],0]")},
    {"paths have more than",
     repeated("[\"d\",\"" + std::string(1 << 20, 'k') + "\",[\"l\"", 1100, ",0", "]]")},
    // Tags.
    {"an empty array", "[]"},
    {"unknown tag", R"(["x",1])"},
    {"cannot be", R"(["k","typed",["t","datetime.date"],["d",1,2]])"},
    {"the kind typed lies over type list", R"(["k","typed",["t","datetime.date"],["l"]])"},
    {"unknown tag", R"(["",1])"},
    {"unknown tag", R"(["list"])"},
    {"type none", "[null]"},
    {"type boolean", "[true,1]"},
    {"an array", R"([["l"]])"},
    // Leaves.
    {"the end of an array", R"(["f"])"},
    {"the text", R"(["f","3ff000000000000"])"},
    {"the text", R"(["f","3FF0000000000000"])"},
    {"the text", R"(["f","3ff0000000000000","3ff0000000000000"])"},
    {"an integer", R"(["f",1])"},
    {"type none", R"(["f",null])"},
    {"an array", R"(["f",["l"]])"},
    {"the end of an array", R"(["c","3ff0000000000000"])"},
    {"the text", R"(["c","3ff0000000000000","x"])"},
    {"the text", R"(["c","3ff0000000000000","3ff0000000000000","3ff0000000000000"])"},
    {"the text", R"(["b","0"])"},
    {"the text", R"(["b","0G"])"},
    {"the text", R"(["b","00","00"])"},
    {"the end of an array", R"(["b"])"},
    {"the end of an array", R"(["p","m.T"])"},
    {"the text", R"(["p","m.T","0"])"},
    {"an object without bytes", R"(["o",0,"m.T"])"},
    {"the end of an array", R"(["o",1,"m.T"])"},
    {"the end of an array", R"(["o",0])"},
    // Dicts.
    {"the end of an array", R"(["d","a"])"},
    {"twice", R"(["d","a",1,"a",2])"},
    {"twice", R"(["d","a",1,"\u0061",2])"},
    {"twice", R"(["d",1,1,1,2])"},
    {"twice", R"(["d",["t",1],1,["t",1],2])"},
    {"twice", R"(["d",["f","7ff8000000000000"],1,["f","7ff8000000000000"],2])"},
    {"is the key", R"(["d",["l"],1])"},
    {"is the key", R"(["d",["d"],1])"},
    {"is the key", R"(["d",["t",["l"]],1])"},
    {"is the key", R"(["d",["k","byte_array",null,["b","00"]],1])"},
    {"is the key", R"(["d",["k","set",null,["l"]],1])"},
    {"the end of an array", R"(["d",[0],1])"},
    {"the end of an array", R"(["d",["t",[0]],1])"},
    {"the end of an array", R"(["d",["B",1,"text"],1])"},
    {"the end of an array", R"(["d",["p","m.T","00"],1])"},
    {"the end of an array", R"(["d",["o",0,"m.T"],1])"},
    // Tensors.
    {"names entry 5 of 5", "[5]"},
    {"names entry -1", "[-1]"},
    {"names entry 4294967296", "[4294967296]"},
    {"the end of an array", R"([0,"float32"])"},
    {"the end of an array", R"([0,"float32",[2],[1]])"},
    {"the end of an array", R"([0,"float32",[2],[1],0,0])"},
    {"the end of an array", R"([0,"float32",[6],[1],0,0,24])"},
    {"the end of an array", R"([0,"float32",[6],[1],0,0,24,[1]])"},
    {"an integer", R"([0,"float32",[6],[1],0,0,24,[1],0,0])"},
    {"an integer", R"([0,"float32",[6],[1],0,-1,24,[1],0])"},
    {"an integer", R"([0,"float32",[6],[1],0,0,-24,[1],0])"},
    {"an integer", R"([0,"float32",[6],[1],0,0,24,1,0])"},
    {"names entry 5 of 5", R"([0,"float32",[6],[1],0,5,24,[1],0])"},
    {"within its run of 23 bytes", R"([0,"float32",[6],[1],0,0,23,[1],0])"},
    {"within its run of 24 bytes", R"([0,"float32",[6],[1],0,0,24,[1],4])"},
    {"within its run of 24 bytes", R"([0,"float32",[6],[1],0,0,24,[2],0])"},
    {"within its run of 24 bytes", R"([0,"float32",[6],[1],0,0,24,[-1],0])"},
    {"within its run of 24 bytes", R"([0,"float32",[6],[1],0,0,24,[1,1],0])"},
    {"within its run of 24 bytes", R"([0,"float32",[3],[2],0,0,24,[1],0])"},
    {"within its run of 24 bytes", R"([0,"float32",[5],[1],4,0,24,[1],0])"},
    {"an integer", R"([0,"float32",[2],[1],-1])"},
    {"an integer", R"([0,"float32",2,[1],0])"},
    {"the text", R"([0,"float33",[2],[1],0])"},
    {"the text", R"([0,"F32",[2],[1],0])"},
    {"an array", R"([0,[2],[1],0])"},
    {"the text", R"([0,"float32",["2"],[1],0])"},
    {"type none", R"([0,"float32",[null],[1],0])"},
    {"an array", R"([0,"float32",[[2]],[1],0])"},
    {"does not lie within", R"([0,"float32",[2],[1,1],0])"},
    {"does not lie within", R"([0,"float32",[-2],[1],0])"},
    {"does not lie within", R"([0,"float32",[7],[1],0])"},
    {"does not lie within", R"([0,"float32",[6],[1],4])"},
    {"does not lie within", R"([0,"float32",[6],[1],1])"},
    {"does not lie within", R"([0,"float32",[2],[-1],0])"},
    {"does not lie within", R"([0,"float32",[2],[6],0])"},
    {"does not lie within", R"([0,"float32",[],[],24])"},
    {"does not lie within", R"([0,"float32",[],[],9223372036854775807])"},
    {"does not lie within", R"([0,"float32",[0],[1],25])"},
    {"does not lie within", R"([0,"float32",[4611686018427387904,4],[0,0],0])"},
    {"does not lie within", R"([0,"float32",[0,4611686018427387904,4],[0,0,0],0])"},
    {"does not lie within", R"([0,"float32",[2],[9223372036854775807],0])"},
    {"does not lie within", R"([0,"float32",[2],[-9223372036854775808],0])"},
    {"does not lie within", R"([0,"float32",[3],[4611686018427387904],0])"},
    // Blobs.
    {"the end of an array", R"(["B",1])"},
    {"the end of an array", R"(["B",1,"text","m.T"])"},
    {"the end of an array", R"(["B",1,"pickle"])"},
    {"the text", R"(["B",1,"texts"])"},
    {"the text", R"(["B","1","text"])"},
    {"names entry 5", R"(["B",5,"text"])"},
    {"not the bytes of one leaf", R"(["B",0,"text"])"},
    {"not the bytes of one leaf", R"(["l",["B",1,"text"],["B",1,"text"]])"},
    {"not a list of numbers", R"(["B",2,"integers"])"},
    // Kinds.
    {"unknown kind", R"(["k","plain",null,1])"},
    {"unknown kind", R"(["k","",null,1])"},
    {"unknown kind", R"(["k","Deque",null,["l"]])"},
    {"type integer", R"(["k",1,null,["l"]])"},
    {"the end of an array", R"(["k","deque",null])"},
    {"the end of an array", R"(["k","deque"])"},
    {"the end of an array", R"(["k"])"},
    {"type integer", R"(["k","deque",null,["l"],1])"},
    {"a kind", R"(["k","deque",null,["k","set",null,["l"]]])"},
    {"a kind", R"(["k","path",["k","path","x","y"],"z"])"},
    {"lies over type tuple", R"(["k","deque",null,["t"]])"},
    {"lies over type text", R"(["k","ellipsis",null,"x"])"},
    {"lies over type tensor", R"(["k","deque",null,[0]])"},
    {"wrong form", R"(["k","deque","x",["l"]])"},
    {"wrong form", R"(["k","deque",-1,["l"]])"},
    {"wrong form", R"(["k","set",1,["l"]])"},
    {"wrong form", R"(["k","path",null,"x"])"},
    {"wrong form", R"(["k","named_tuple",["t",1],["t"]])"},
    {"wrong form", R"(["k","named_tuple",null,["t"]])"},
    {"wrong form", R"(["k","ordered_dict",["l"],["d"]])"},
    {"wrong form", R"(["k","parameter",1,[0]])"},
    {"cannot be", R"(["k","deque",1,["l",1,2]])"},
    {"cannot be", R"(["k","named_tuple",["t","T","x"],["t"]])"},
    {"cannot be", R"(["k","named_tuple",["t"],["t"]])"},
    {"cannot be", R"(["k","torch_size",null,["t","x"]])"},
    {"cannot be", R"(["k","slice",null,["t",1,2]])"},
    {"cannot be", R"(["k","range",null,["t",1,2,null]])"},
    {"cannot be", R"(["k","big_integer",null,"12x"])"},
    {"cannot be", R"(["k","big_integer",null,"-"])"},
    {"cannot be", R"(["k","big_integer",null,"012"])"},
    {"cannot be", R"(["k","set",null,["l",["d"]]])"},
    {"the end of an array", R"(["k","ordered_dict",["d","t",[0]],["d"]])"},
};

TEST(TreeRefusals, EveryFaultIsNamed) {
  for (const auto& fault : kFaults) {
    SCOPED_TRACE(fault.tree);
    const auto message =
        fakes::expect_error(ErrorCode::corrupt, fault.what, [&] { decode(fault.tree); });
    EXPECT_TRUE(message.starts_with("f: ")) << message;
  }
}

TEST(TreeRefusals, EntriesThatNoTensorCanBe) {
  for (const auto* tree : {"[3]", "[4]"}) {
    fakes::expect_error(ErrorCode::unsupported, "cannot be a tensor", [&] { decode(tree); });
  }
}

TEST(TreeRefusals, DepthIsBounded) {
  const auto nested = [](int depth, const std::string& open, const std::string& close) {
    std::string tree;
    for (int i = 0; i < depth; ++i) tree += open;
    tree += "0";
    for (int i = 0; i < depth; ++i) tree += close;
    return tree;
  };
  for (const std::string open :
       {R"(["l",)", R"(["t",)", R"(["d","k",)", R"(["k","deque",null,["l",)"}) {
    const std::string close = open.starts_with(R"(["k")") ? "]]" : "]";
    EXPECT_NO_THROW(decode(nested(kMaxDepth, open, close))) << open;
    fakes::expect_error(ErrorCode::corrupt, "nests deeper",
                        [&] { decode(nested(kMaxDepth + 1, open, close)); });
    fakes::expect_error(ErrorCode::corrupt, "nests deeper",
                        [&] { decode(nested(100'000, open, close)); });
  }
  // Through keys and extras too.
  fakes::expect_error(ErrorCode::corrupt, "nests deeper",
                      [&] { decode(nested(10'000, R"(["d",["t",)", "],1]")); });
  fakes::expect_error(ErrorCode::corrupt, "nests deeper", [&] {
    decode(nested(10'000, R"(["k","ordered_dict",["d","k",)", R"(],["d"]])"));
  });
}

TEST(TreeRefusals, TextThatIsNotUtf8InABlob) {
  TreeSource source;
  source.blob = [](std::uint32_t) { return std::string("\xFF"); };
  fakes::expect_error(ErrorCode::corrupt, "not UTF-8",
                      [&] { decode_tree(R"(["B",1,"text"])", kEntries, source, "f"); });
}

TEST(TreeRefusals, ViewsWithinTheirEntryAreTaken) {
  for (const auto* tree :
       {"[0]", R"([0,"float32",[6],[1],0])", R"([0,"float32",[6],[-1],20])",
        R"([0,"float32",[1000,6],[0,1],0])", R"([0,"float32",[],[],20])", R"([0,"uint8",[],[],23])",
        R"([0,"float64",[0],[1],24])", R"([0,"float32",[3,2],[1,3],0])",
        R"([0,"float32",[1],[9223372036854775],0])"}) {
    TreeSource source;
    source.tensor = [](const View&) { return Value(true); };
    EXPECT_TRUE(decode_tree(tree, kEntries, source, "f").as_boolean()) << tree;
  }
}

// A later version may know it: that is no damage.
TEST(TreeRefusals, ATypeThatIsNotOnTheListIsUnsupportedByPath) {
  const auto tree = R"(["d","a",["l",0,["d","x",["k","typed",["t","os.system"],["d"]]]]])";
  try {
    decode(tree);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_STREQ(error.what(),
                 R"(f: the tree has a value of type "os.system", which is unknown, at 'a.1.x')");
  }
  // In a key, whose place is its dict's.
  const auto keyed = R"(["d","a",["d","b",1,["k","typed",["t","x"],["d"]],2]])";
  EXPECT_THROW(decode(keyed), Error);
}

}  // namespace
}  // namespace understudy::format
