#include "sim_kernel.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace keel::kevent_sys {
namespace {

constexpr std::size_t file_slice_bytes = 262144;
// Who asks a listener without room asks again.
constexpr std::uint64_t connect_retry_ns = 1'000'000'000;

std::uint64_t inode_of(int fd) noexcept {
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? static_cast<std::uint64_t>(status.st_ino) : 0;
}

const_byte_span source_of(const request& asked, std::size_t limit) noexcept {
  return {static_cast<const std::byte*>(asked.data), std::min<std::size_t>(asked.size_bytes, limit)};
}

}  // namespace

sim_kernel::sim_kernel(const sim_kernel_options& options)
    : disk(options.disk_bytes), random(options.seed), now_ns(options.now_ns), options_(options) {}

int sim_kernel::add(std::shared_ptr<sim_object> object) {
  if (table_.size() >= options_.descriptors_max) return -EMFILE;
  if (options_.real_descriptors) return add_real(std::move(object));
  int fd = first_fd;
  for (auto next = table_.lower_bound(first_fd); next != table_.end() && next->first == fd; ++next) ++fd;
  begin_use(*object);
  table_[fd].object = std::move(object);
  return fd;
}

// One end of a socket pair is the descriptor; the other end sees what becomes of it.
int sim_kernel::add_real(std::shared_ptr<sim_object> object) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return -errno;
  adopt(ends[0], std::move(object));
  table_[ends[0]].keeper = unique_fd(ends[1]);
  return ends[0];
}

void sim_kernel::adopt(int fd, std::shared_ptr<sim_object> object) {
  if (table_.contains(fd)) close(fd);
  begin_use(*object);
  entry& made = table_[fd];
  made.object = std::move(object);
  made.inode = inode_of(fd);
  KEEL_ASSERT(made.inode != 0, "only an open descriptor can be adopted");
}

bool sim_kernel::takes(const request& asked) {
  if (asked.fd >= first_fd) return true;
  if (asked.fd < 0) return false;
  const auto found = table_.find(asked.fd);
  // A number that the process has used again is not ours.
  const bool ours = found != table_.end() && inode_of(asked.fd) == found->second.inode;
  if (!ours && found != table_.end()) close(asked.fd);
  if (ours || !options_.real_descriptors || asked.code != opcode::connect || inode_of(asked.fd) == 0)
    return ours;
  // From now on the number stands for one end of a pair.
  unique_fd pair(add_real(std::make_shared<sim_stream>(false)));
  if (!pair) return false;
  const int moved = ::dup3(pair.get(), asked.fd, O_CLOEXEC);
  KEEL_ASSERT(moved == asked.fd, "a descriptor cannot be replaced by one of a world");
  table_[asked.fd] = std::move(table_[pair.get()]);
  table_.erase(pair.get());
  return true;
}

std::shared_ptr<sim_object> sim_kernel::find(int fd) noexcept {
  const auto found = table_.find(fd);
  return found == table_.end() ? nullptr : found->second.object;
}

int sim_kernel::close(int fd) {
  const auto found = table_.find(fd);
  if (found == table_.end()) return -EBADF;
  const entry gone = std::move(found->second);
  table_.erase(found);
  end_use(*gone.object);
  return 0;
}

void sim_kernel::end_use(sim_object& object) {
  KEEL_ASSERT(object.users > 0);
  if (--object.users == 0) object.close(now_ns);
}

std::vector<int> sim_kernel::observe() {
  std::vector<int> closed;
  if (!options_.real_descriptors) return closed;
  for (auto& [fd, e] : table_) {
    if (e.inode == 0) continue;
    if (inode_of(fd) != e.inode) {
      closed.push_back(fd);
      continue;
    }
    if (!e.keeper || e.shut) continue;
    pollfd seen{e.keeper.get(), POLLRDHUP, 0};
    if (::poll(&seen, 1, 0) <= 0 || (seen.revents & POLLRDHUP) == 0) continue;
    e.shut = true;
    e.object->shutdown_send(now_ns);
  }
  for (const int fd : closed) close(fd);
  return closed;
}

sim_step sim_kernel::perform(const request& asked, sim_object* object, byte_span target, std::size_t limit) {
  const byte_span place = target.first(std::min(target.size(), limit));
  switch (asked.code) {
    case opcode::accept: return accept(*object);
    case opcode::connect: return connect(asked, *object);
    case opcode::recv:
    case opcode::receive:
      if (!object->is_socket()) return {.value = -ENOTSOCK};
      return object->receive(place, asked.code == opcode::recv ? asked.flags : 0, now_ns);
    case opcode::drain: return object->receive(place, 0, now_ns);
    case opcode::send:
      if (!object->is_socket()) return {.value = -ENOTSOCK};
      return object->send(source_of(asked, limit), now_ns);
    case opcode::read:
      if (dynamic_cast<sim_open_file*>(object) == nullptr) return object->receive(place, 0, now_ns);
      return object->read_at(place, asked.offset, now_ns);
    case opcode::write:
      if (dynamic_cast<sim_open_file*>(object) == nullptr)
        return object->send(source_of(asked, limit), now_ns);
      return object->write_at(source_of(asked, limit), asked.offset, now_ns);
    case opcode::sendfile: return send_file(asked, *object, limit);
    case opcode::open: return open(asked);
    case opcode::close: return {.value = close(asked.fd)};
    case opcode::call: {
      const auto& what = *static_cast<const blocking_call*>(asked.data);
      return {.value = what.function(what.context)};
    }
    default: break;
  }
  KEEL_ASSERT(false, "no request for an object");
  return {};
}

sim_step sim_kernel::accept(sim_object& object) {
  auto* listener = dynamic_cast<sim_listener*>(&object);
  if (listener == nullptr) return {.value = object.is_socket() ? -EINVAL : -ENOTSOCK};
  auto connection = listener->first(now_ns);
  if (connection == nullptr) return sim_step::block(listener->next_change_ns(now_ns));
  const int fd = add(std::move(connection));
  if (fd >= 0) listener->pop();
  return {.value = fd};
}

sim_step sim_kernel::connect(const request& asked, sim_object& object) {
  auto* stream = dynamic_cast<sim_stream*>(&object);
  if (stream == nullptr) return {.value = object.is_socket() ? -EINVAL : -ENOTSOCK};
  if (stream->connected_ns != never) {
    if (now_ns < stream->connected_ns) return sim_step::block(stream->connected_ns);
    stream->connected_ns = never;
    return {};
  }
  if (stream->connected() || !stream->is_socket()) return {.value = -EISCONN};
  const auto known =
      listeners_.find(std::string_view(static_cast<const char*>(asked.data), asked.size_bytes));
  const auto listener = known == listeners_.end() ? nullptr : known->second.lock();
  if (listener == nullptr || listener->closed) return {.value = -ECONNREFUSED};
  const auto theirs = std::make_shared<sim_stream>(false);
  if (!listener->offer(theirs, now_ns + listener->link.latency_ns))
    return sim_step::block(now_ns + connect_retry_ns);
  const auto ours = std::static_pointer_cast<sim_stream>(find(asked.fd));
  if (ours.get() != stream) return {.value = -EBADF};
  watch(sim_stream::join(ours, theirs, listener->link));
  if (listener->link.latency_ns == 0) return {};
  stream->connected_ns = now_ns + 2 * listener->link.latency_ns;
  return sim_step::block(stream->connected_ns);
}

sim_step sim_kernel::send_file(const request& asked, sim_object& object, std::size_t limit) {
  const auto source = find(asked.file_fd);
  if (source == nullptr) return {.value = -EBADF};
  auto* file = dynamic_cast<sim_open_file*>(source.get());
  if (file == nullptr) return {.value = -ESPIPE};
  const std::string& bytes = file->inode().bytes;
  if (asked.offset >= bytes.size()) return {};
  const std::size_t n =
      std::min({std::size_t(asked.count), file_slice_bytes, limit, std::size_t(bytes.size() - asked.offset)});
  const const_byte_span slice = as_bytes(bytes).subspan(asked.offset, n);
  sim_step step = object.send(slice, now_ns);
  if (step.value > 0 && step.audit != nullptr)
    step.counted.note(step.position, slice.first(static_cast<std::size_t>(step.value)));
  return step;
}

sim_step sim_kernel::open(const request& asked) {
  std::shared_ptr<sim_inode> file;
  const int opened = disk.open(static_cast<const char*>(asked.data), asked.flags, file);
  if (opened < 0) return {.value = opened};
  return {.value = add(std::make_shared<sim_open_file>(disk, std::move(file), asked.flags))};
}

std::shared_ptr<sim_listener> sim_kernel::listen(std::string_view address, std::uint32_t backlog,
                                                 const sim_link& link) {
  const auto known = listeners_.find(address);
  const auto other = known == listeners_.end() ? nullptr : known->second.lock();
  if (other != nullptr && !other->closed) return nullptr;
  auto made = std::make_shared<sim_listener>(link, backlog);
  listeners_.insert_or_assign(std::string(address), made);
  return made;
}

int sim_kernel::connect_pair(int& first, int& second, const sim_link& link) {
  const auto a = std::make_shared<sim_stream>(false);
  const auto b = std::make_shared<sim_stream>(false);
  watch(sim_stream::join(a, b, link));
  first = add(a);
  if (first < 0) return first;
  second = add(b);
  if (second < 0) close(first);
  return std::min(second, 0);
}

int sim_kernel::pipe(int& reading, int& writing, const sim_link& link) {
  const auto reader = std::make_shared<sim_stream>(true);
  const auto writer = std::make_shared<sim_stream>(true);
  watch({sim_stream::join_pipe(reader, writer, link)});
  reading = add(reader);
  if (reading < 0) return reading;
  writing = add(writer);
  if (writing < 0) close(reading);
  return std::min(writing, 0);
}

void sim_kernel::watch(const std::vector<std::shared_ptr<sim_channel>>& made) {
  channels_.insert(channels_.end(), made.begin(), made.end());
}

std::string sim_kernel::unbalanced() const {
  std::string report;
  std::size_t number = 0;
  for (const auto& c : channels_) {
    ++number;
    const bool adds_up = c->put == c->taken + c->inside + c->lost;
    const bool told = c->sent.count == c->put && c->received.count == c->taken;
    const bool same = c->sent.count != c->received.count || c->sent.sum == c->received.sum;
    if (adds_up && told && same) continue;
    report += "channel " + std::to_string(number) + ": " + std::to_string(c->put) + " bytes went in, " +
              std::to_string(c->taken) + " came out, " + std::to_string(c->inside) + " are inside, " +
              std::to_string(c->lost) + " were lost; senders were told of " + std::to_string(c->sent.count) +
              ", receivers of " + std::to_string(c->received.count) + (same ? "" : "; not the same bytes") +
              "\n";
  }
  return report;
}

}  // namespace keel::kevent_sys
