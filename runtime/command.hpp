// What a process is to run: a program, its arguments, its environment, its folder.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace keel {

// A value. No shell is involved: each word reaches the program as it is.
//
//     command("grep", "-n", pattern, path)
//     command("make", "all").in_folder(source).with_variable("CC", "clang")
class command {
 public:
  // The program, and its arguments. A program without a slash is looked for in the PATH of this process; a
  // path that is not absolute counts from the folder of the command.
  template <class... Words>
  requires(sizeof...(Words) > 0 && (std::convertible_to<const Words&, std::string_view> && ...))
      command(const Words&... words) {
    (add(words_, words), ...);
  }
  // REQUIRES: !words.empty()
  explicit command(std::span<const std::string> words);
  // The text as a line for the shell: sh -c line.
  static command shell(std::string_view line) { return command("/bin/sh", "-c", line); }

  command(const command& other);
  command(command&& other) noexcept;
  command& operator=(command other) noexcept;
  ~command();

  command& with_argument(std::string_view word) &;
  command&& with_argument(std::string_view word) && { return std::move(with_argument(word)); }
  // The folder in which it starts; this process's own when none is given.
  command& in_folder(std::string_view path) &;
  command&& in_folder(std::string_view path) && { return std::move(in_folder(path)); }

  // The environment is that of this process with these changes, in their order.
  command& with_variable(std::string_view name, std::string_view value) &;
  command&& with_variable(std::string_view name, std::string_view value) && {
    return std::move(with_variable(name, value));
  }
  command& without_variable(std::string_view name) &;
  command&& without_variable(std::string_view name) && { return std::move(without_variable(name)); }
  // Begins with an empty environment instead.
  command& with_empty_environment() &;
  command&& with_empty_environment() && { return std::move(with_empty_environment()); }

  std::string_view program() const noexcept { return words_.c_str(); }
  const std::string& folder() const noexcept { return folder_; }
  // As the kernel takes them: each word, and each "NAME=value", with a zero behind it.
  const std::string& words() const noexcept { return words_; }
  std::string environment() const;
  // Some word has a zero inside: it cannot be run.
  bool has_zero_inside() const noexcept { return has_zero_inside_; }

 private:
  void add(std::string& list, std::string_view word);

  std::string words_;
  std::string folder_;
  std::string changes_;  // "NAME=value" sets, "NAME" removes
  bool inherits_ = true;
  bool has_zero_inside_ = false;
};

}  // namespace keel
