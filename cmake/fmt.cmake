# fmt without a library to link with: its headers, and what they declare compiled once, into ours.
# Header-only, fmt takes half of the compiler's time for each file that includes it.
find_package(fmt REQUIRED)
add_library(understudy_fmt INTERFACE)
if(fmt_VERSION VERSION_GREATER_EQUAL 9 AND fmt_VERSION VERSION_LESS 10)
  target_include_directories(understudy_fmt SYSTEM INTERFACE
    $<TARGET_PROPERTY:fmt::fmt-header-only,INTERFACE_INCLUDE_DIRECTORIES>)
else()  # src/base/fmt.cpp knows what version 9 declares
  target_link_libraries(understudy_fmt INTERFACE fmt::fmt-header-only)
endif()
