// The commands, without their grammar (grammar.cpp).
#pragma once

#include <string>
#include <vector>

#include "understudy/error.h"
#include "understudy/inspect.h"
#include "understudy/options.h"

namespace understudy::cli {

/// Exit status of the program.
enum Exit : int {
  kFine = 0,
  kFinding = 1,  ///< damaged, or different
  kFailed = 2,   ///< could not do it
};

/// Damage is a finding, also where it keeps a command from its work.
inline int exit_for(ErrorCode code) noexcept {
  return code == ErrorCode::corrupt ? kFinding : kFailed;
}

struct LsArguments {
  std::string directory;
  bool json = false;
};

struct ShowArguments {
  std::string path;
  bool all = false;
  bool json = false;
};

struct VerifyArguments {
  std::vector<std::string> paths;
  bool json = false;
};

struct DiffArguments {
  std::string a;
  std::string b;
  bool json = false;
};

struct ExportArguments {
  std::string step;
  std::string out;
  ExportOptions to;
  bool json = false;
};

struct RecoverArguments {
  std::string directory;
  std::string memory = kMemoryFolder;
  bool list = false;
  bool discard = false;
  bool json = false;
};

struct DoctorArguments {
  std::string directory = ".";
  bool json = false;
};

// Each gives the exit status.
int run(const LsArguments& options);
int run(const ShowArguments& options);
int run(const VerifyArguments& options);
int run(const DiffArguments& options);
int run(const ExportArguments& options);
int run(const RecoverArguments& options);
int run(const DoctorArguments& options);

}  // namespace understudy::cli
