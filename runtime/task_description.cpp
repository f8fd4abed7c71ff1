#include <keel/runtime/task_description.hpp>

#include <keel/runtime/place.hpp>
#include <keel/runtime/scheduler.hpp>

namespace keel {
namespace {

// Errors come in storms, and tasks in hundreds of thousands: a parent is looked for among the oldest ones,
// where those are that spawn the others.
constexpr unsigned looked_at_max = 1024;
constexpr unsigned generations_max = 8;
constexpr unsigned frames_max = 8;

const task_node* find(scheduler& home, std::uint64_t id) noexcept {
  auto& nodes = home.nodes();
  unsigned left = looked_at_max;
  for (task_node* one = nodes.empty() ? nullptr : &nodes.front(); one != nullptr; one = nodes.next(*one)) {
    if (one->id == id) return one;
    if (one->id > id || --left == 0) break;
  }
  return nullptr;
}

std::string title_of(const task_node& node) {
  std::string text = "'";
  text += node.name != nullptr ? node.name : "unnamed";
  text += "' #";
  return text + std::to_string(node.id);
}

}  // namespace

std::string task_description::title() const {
  if (node_ != nullptr && node_->id != 0) return title_of(*node_);
  return std::string("'") + name() + "'";
}

std::string task_description::spawned_by() const {
  if (node_ == nullptr || node_->parent_id == 0) return {};
  std::string text = "spawned by ";
  const task_node* at = node_;
  for (unsigned i = 0; at->parent_id != 0; ++i) {
    if (i != 0) text += " < ";
    if (i == generations_max) return text + "...";
    const task_node* parent = find(node_->context.home(), at->parent_id);
    if (parent == nullptr) return text + "#" + std::to_string(at->parent_id);
    text += title_of(*parent);
    at = parent;
  }
  return text;
}

std::string task_description::place() const {
  if (node_ == nullptr) return {};
  // Its own coroutines have ended with the failure that passed through all of them.
  if (node_->innermost == nullptr && node_->failed_through == nullptr) return describe(node_->failed_at);
  std::string text;
  unsigned left = frames_max;
  for (const task_frame* frame = node_->innermost; frame != nullptr && left > 0; frame = frame->caller) {
    const std::string one = describe(frame->awaits);
    if (one.empty()) continue;
    if (!text.empty()) text += " < ";
    text += one;
    --left;
  }
  return text;
}

}  // namespace keel
