#include "sim_kernel.hpp"

#include <keel/kevent_sys/sim_engine.hpp>

#include <bit>

namespace keel::kevent_sys {
namespace {

constexpr std::uint64_t golden = 0x9e3779b97f4a7c15;

}  // namespace

sim_world::~sim_world() {
  // The list of engines says the rest.
  if (engines_.empty()) delete kernel_;
}

sim_engine& sim_world::engine(unsigned index) noexcept {
  KEEL_ASSERT(!engines_.empty(), "no queue has made its engine yet");
  sim_engine* found = &engines_.front();
  for (; index > 0 && found != nullptr; --index) found = engines_.next(*found);
  KEEL_ASSERT(found != nullptr, "there are not so many engines");
  return *found;
}

kevent_sys::engine* sim_world::make(event_sink& sink, void* self) {
  auto& world = *static_cast<sim_world*>(self);
  auto* made = new sim_engine(sink, world.options_, &world, world.options_.seed + golden * world.made_++);
  world.engines_.push_back(*made);
  return made;
}

void sim_world::engine_ends(sim_engine& ended) noexcept {
  gone_hash_ = std::rotl(gone_hash_, 7) ^ ended.trace_hash();
  gone_report_ += ended.checker().report();
}

sim_kernel& sim_world::objects() {
  if (kernel_ == nullptr) {
    kernel_ = new sim_kernel({.now_ns = options_.now_ns,
                              .seed = ~options_.seed,
                              .descriptors_max = options_.descriptors_max,
                              .disk_bytes = options_.disk_bytes,
                              .real_descriptors = options_.real_descriptors});
  }
  return *kernel_;
}

sim_descriptors sim_world::stream_pair(const sim_link& link) {
  sim_descriptors made{-1, -1};
  const int error = objects().connect_pair(made.first, made.second, link);
  return error < 0 ? sim_descriptors{error, error} : made;
}

sim_descriptors sim_world::pipe(const sim_link& link) {
  sim_descriptors made{-1, -1};
  const int error = objects().pipe(made.first, made.second, link);
  return error < 0 ? sim_descriptors{error, error} : made;
}

sim_descriptors sim_world::datagram_pair(const sim_link& link) {
  sim_kernel& all = objects();
  const auto a = std::make_shared<sim_datagram_socket>(link, all.random);
  const auto b = std::make_shared<sim_datagram_socket>(link, all.random);
  sim_datagram_socket::join(a, b);
  sim_descriptors made{all.add(a), -1};
  if (made.first >= 0) made.second = all.add(b);
  if (made.first >= 0 && made.second < 0) all.close(made.first);
  const int error = made.first < 0 ? made.first : made.second;
  return error < 0 ? sim_descriptors{error, error} : made;
}

int sim_world::socket() {
  return objects().add(std::make_shared<sim_stream>(false));
}

int sim_world::listener(std::string_view address, std::uint32_t backlog, const sim_link& link) {
  const auto made = objects().listen(address, backlog, link);
  return made == nullptr ? -EADDRINUSE : objects().add(made);
}

void sim_world::adopt_listener(int fd, std::string_view address, std::uint32_t backlog,
                               const sim_link& link) {
  KEEL_ASSERT(options_.real_descriptors, "only a world of real descriptors adopts one");
  const auto made = objects().listen(address, backlog, link);
  KEEL_ASSERT(made != nullptr, "two listeners of a world on one address");
  objects().adopt(fd, made);
}

int sim_world::shutdown_send(int fd) {
  const auto object = objects().find(fd);
  if (object == nullptr) return -EBADF;
  return object->shutdown_send(objects().now_ns);
}

int sim_world::reset(int fd) {
  const auto object = objects().find(fd);
  if (object == nullptr) return -EBADF;
  object->reset(objects().now_ns);
  return 0;
}

int sim_world::close(int fd) {
  return objects().close(fd);
}

std::uint32_t sim_world::open_descriptors() {
  return objects().open_descriptors();
}

void sim_world::put_file(std::string_view path, std::string_view bytes) {
  objects().disk.put(path, bytes);
  objects().has_disk = true;
}

std::string_view sim_world::file(std::string_view path) {
  const auto found = objects().disk.find(path);
  return found == nullptr ? std::string_view() : std::string_view(found->bytes);
}

bool sim_world::has_file(std::string_view path) {
  return objects().disk.find(path) != nullptr;
}

void sim_world::remove_file(std::string_view path) {
  objects().disk.remove(path);
}

bool sim_world::truncate_file(std::string_view path, std::uint64_t bytes) {
  const auto found = objects().disk.find(path);
  return found != nullptr && objects().disk.resize(*found, bytes);
}

void sim_world::stop_faults() noexcept {
  if (engines_.empty()) return;
  for (sim_engine* e = &engines_.front(); e != nullptr; e = engines_.next(*e)) e->stop_faults();
}

std::uint64_t sim_world::trace_hash() const noexcept {
  std::uint64_t hash = gone_hash_;
  if (engines_.empty()) return hash;
  for (const sim_engine* e = &engines_.front(); e != nullptr; e = engines_.next(*e))
    hash = std::rotl(hash, 7) ^ e->trace_hash();
  return hash;
}

void sim_world::expect_liveness(std::uint64_t limit_ns) {
  if (engines_.empty()) return;
  for (sim_engine* e = &engines_.front(); e != nullptr; e = engines_.next(*e)) e->expect_liveness(limit_ns);
}

void sim_world::expect_end() {
  if (!engines_.empty()) {
    for (sim_engine* e = &engines_.front(); e != nullptr; e = engines_.next(*e)) {
      e->checker().expect_end();
      if (const std::uint32_t away = e->buffers().away(); away != 0)
        e->checker().complain(std::to_string(away) + " receive buffers did not come home");
    }
  }
  if (kernel_ != nullptr) gone_report_ += kernel_->unbalanced();
}

std::string sim_world::report_of_all() const {
  std::string all = gone_report_;
  if (engines_.empty()) return all;
  for (const sim_engine* e = &engines_.front(); e != nullptr; e = engines_.next(*e))
    all += e->checker().report();
  return all;
}

std::string sim_world::report() const {
  std::string all = report_of_all();
  if (!all.empty()) all += "KEEL_SEED=" + std::to_string(options_.seed) + " shows it again\n";
  return all;
}

}  // namespace keel::kevent_sys
