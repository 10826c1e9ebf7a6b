// Text that came from a file, a path or a user, made safe to be shown.
#pragma once

#include <string>
#include <string_view>

namespace understudy {

/// The text as it may go to a terminal. What could move the cursor, turn the
/// direction of writing or hide comes out as an escape: control characters (C0,
/// C1, DEL), separators of lines, direction marks, and bytes that are no UTF-8.
/// All else stays, backslashes too; so what is printable stays what it is.
/// Every Error's message has been through it.
std::string printable(std::string_view text);

/// A name to be shown: as `printable`, and backslashes are doubled, so that no
/// two names look the same.
std::string escape(std::string_view name);

}  // namespace understudy
