#include <keel/runtime/place.hpp>

namespace keel {
namespace {

bool opens(char c) noexcept {
  return c == '(' || c == '<' || c == '{' || c == '[';
}
bool closes(char c) noexcept {
  return c == ')' || c == '>' || c == '}' || c == ']';
}

// Without the brackets that end `text`, and what is in them.
std::string_view without_brackets(std::string_view text) noexcept {
  int depth = 0;
  for (std::size_t i = text.size(); i > 0; --i) {
    if (closes(text[i - 1])) ++depth;
    if (opens(text[i - 1]) && --depth == 0) return text.substr(0, i - 1);
  }
  return text;
}

// Where the last component of a qualified name begins; 0 when it is the only one.
std::size_t last_component(std::string_view name) noexcept {
  int depth = 0;
  for (std::size_t i = name.size(); i > 0; --i) {
    const char c = name[i - 1];
    if (closes(c)) ++depth;
    if (opens(c)) --depth;
    if (depth == 0 && (c == ' ' || c == ':')) return i;
  }
  return 0;
}

bool ends_with_lambda(std::string_view scope) noexcept {
  const std::string_view last = scope.substr(last_component(scope));
  return last.starts_with("<lambda") || last == "(anonymous class)" || last.starts_with("(lambda at");
}

std::string_view before(std::string_view name, std::size_t component) noexcept {
  name = name.substr(0, component);
  return name.ends_with("::") ? name.substr(0, name.size() - 2) : std::string_view();
}

}  // namespace

std::string_view short_path(std::string_view path) noexcept {
  const std::size_t last = path.rfind('/');
  if (last == std::string_view::npos || last == 0) return path;
  const std::size_t second = path.rfind('/', last - 1);
  return second == std::string_view::npos ? path : path.substr(second + 1);
}

std::string short_function(std::string_view name) {
  constexpr std::string_view call = "operator()";
  // clang appends the template arguments: "task<T> f(T) [T = int]".
  if (name.ends_with(']')) name = without_brackets(name);
  while (name.ends_with(' ')) name.remove_suffix(1);
  for (const std::string_view suffix : {" const", " noexcept"})
    if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  if (name.ends_with(')') && !name.ends_with(call)) name = without_brackets(name);
  if (name.ends_with(call)) {
    const std::size_t begin = name.size() - call.size();
    std::string_view scope = before(name, begin);
    bool is_lambda = false;
    while (ends_with_lambda(scope)) {
      is_lambda = true;
      scope = before(scope, last_component(scope));
    }
    if (is_lambda) return scope.empty() ? "lambda" : "lambda in " + short_function(scope);
    return scope.empty() ? std::string(call) : short_function(scope) + "::" + std::string(call);
  }
  if (name.ends_with('>')) name = without_brackets(name);
  return std::string(name.substr(last_component(name)));
}

std::string describe(const std::source_location& place) {
  if (place.line() == 0) return {};
  std::string text(short_path(place.file_name()));
  text += ':';
  text += std::to_string(place.line());
  if (*place.function_name() != '\0') text += " in " + short_function(place.function_name());
  return text;
}

}  // namespace keel
