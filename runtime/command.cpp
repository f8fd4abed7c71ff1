#include <keel/runtime/command.hpp>

#include <keel/base/assert.hpp>

#include <unistd.h>
#include <utility>

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

command::command(std::span<const std::string> words) : words_(words.begin(), words.end()) {
  KEEL_ASSERT(!words.empty(), "a command begins with its program");
}

command::command(const command& other)
    : words_(other.words_), folder_(other.folder_), changes_(other.changes_), inherits_(other.inherits_) {}

command::command(command&& other) noexcept
    : words_(std::move(other.words_)),
      folder_(std::move(other.folder_)),
      changes_(std::move(other.changes_)),
      inherits_(other.inherits_) {}

command& command::operator=(command other) noexcept {
  words_ = std::move(other.words_);
  folder_ = std::move(other.folder_);
  changes_ = std::move(other.changes_);
  inherits_ = other.inherits_;
  return *this;
}

command::~command() = default;

command& command::with_argument(std::string_view word) & {
  words_.emplace_back(word);
  return *this;
}

command& command::in_folder(std::string_view path) & {
  folder_ = path;
  return *this;
}

command& command::with_variable(std::string_view name, std::string_view value) & {
  check_name(name);
  std::string& change = changes_.emplace_back(name);
  change += '=';
  change += value;
  return *this;
}

command& command::without_variable(std::string_view name) & {
  check_name(name);
  changes_.emplace_back(name);
  return *this;
}

command& command::with_empty_environment() & {
  inherits_ = false;
  changes_.clear();
  return *this;
}

std::vector<std::string> command::environment() const {
  std::vector<std::string> all;
  for (char** each = inherits_ ? ::environ : nullptr; each != nullptr && *each != nullptr; ++each)
    all.emplace_back(*each);
  for (const std::string& change : changes_) {
    std::erase_if(all, [&](const std::string& old) { return name_of(old) == name_of(change); });
    if (change.find('=') != std::string::npos) all.push_back(change);
  }
  return all;
}

}  // namespace keel
