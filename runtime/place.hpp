// Places in the source, as a person reads them.
#pragma once

#include <source_location>
#include <string>
#include <string_view>

namespace keel {

// The last two components of a path: "net/tcp.cpp".
std::string_view short_path(std::string_view path) noexcept;

// The name of a function without its return type, scope, template arguments and parameters: "serve", "lambda
// in main". Understands what g++ and clang say of coroutines.
std::string short_function(std::string_view signature);

// "net/tcp.cpp:88 in serve"; empty for a place that is none.
std::string describe(const std::source_location& place);

}  // namespace keel
