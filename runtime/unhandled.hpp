// Private to runtime: what happens to failures that nobody collects, unless a program says otherwise.
#pragma once

#include <keel/runtime/task_description.hpp>

#include <exception>
#include <string>
#include <system_error>

namespace keel {

// "std::runtime_error: what it says"
std::string describe(const std::exception_ptr& error);

[[noreturn]] void print_and_terminate(const task_description& task, std::exception_ptr error);
void print_rate_limited(const task_description& task, std::error_code error);

}  // namespace keel
