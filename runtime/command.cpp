#include <keel/runtime/command.hpp>

#include <keel/base/assert.hpp>

#include <unistd.h>
#include <cstring>
#include <utility>
#include <vector>

namespace keel {
namespace {

std::string_view name_of(std::string_view variable) noexcept {
  return variable.substr(0, variable.find('='));
}

void check_name(std::string_view name) noexcept {
  KEEL_ASSERT(!name.empty() && name.find('=') == std::string_view::npos,
              "the name of a variable is not empty and has no '='");
}

}  // namespace

command::command(std::span<const std::string> words) {
  KEEL_ASSERT(!words.empty(), "a command begins with its program");
  for (const std::string& word : words) add(words_, word);
}

command::command(const command& other)
    : words_(other.words_),
      folder_(other.folder_),
      changes_(other.changes_),
      inherits_(other.inherits_),
      has_zero_inside_(other.has_zero_inside_) {}

command::command(command&& other) noexcept
    : words_(std::move(other.words_)),
      folder_(std::move(other.folder_)),
      changes_(std::move(other.changes_)),
      inherits_(other.inherits_),
      has_zero_inside_(other.has_zero_inside_) {}

command& command::operator=(command other) noexcept {
  words_ = std::move(other.words_);
  folder_ = std::move(other.folder_);
  changes_ = std::move(other.changes_);
  inherits_ = other.inherits_;
  has_zero_inside_ = other.has_zero_inside_;
  return *this;
}

command::~command() = default;

void command::add(std::string& list, std::string_view word) {
  if (word.find('\0') != std::string_view::npos) has_zero_inside_ = true;
  list += word;
  list += '\0';
}

command& command::with_argument(std::string_view word) & {
  add(words_, word);
  return *this;
}

command& command::in_folder(std::string_view path) & {
  if (path.find('\0') != std::string_view::npos) has_zero_inside_ = true;
  folder_ = path;
  return *this;
}

command& command::with_variable(std::string_view name, std::string_view value) & {
  check_name(name);
  add(changes_, std::string(name) + '=' + std::string(value));
  return *this;
}

command& command::without_variable(std::string_view name) & {
  check_name(name);
  add(changes_, name);
  return *this;
}

command& command::with_empty_environment() & {
  inherits_ = false;
  changes_.clear();
  return *this;
}

std::string command::environment() const {
  std::vector<std::string_view> all;
  for (char** each = inherits_ ? ::environ : nullptr; each != nullptr && *each != nullptr; ++each)
    all.emplace_back(*each);
  const char* const end = changes_.c_str() + changes_.size();
  for (const char* change = changes_.c_str(); change != end; change += std::strlen(change) + 1) {
    std::erase_if(all, [&](std::string_view old) { return name_of(old) == name_of(change); });
    if (std::strchr(change, '=') != nullptr) all.emplace_back(change);
  }
  std::string packed;
  for (const std::string_view each : all) (packed += each) += '\0';
  return packed;
}

}  // namespace keel
