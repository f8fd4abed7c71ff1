// All of keel.
#pragma once

#include <keel/fs/file.hpp>
#include <keel/net/tcp.hpp>
#include <keel/runtime/barrier.hpp>
#include <keel/runtime/command.hpp>
#include <keel/runtime/condition.hpp>
#include <keel/runtime/event.hpp>
#include <keel/runtime/exit_status.hpp>
#include <keel/runtime/graceful.hpp>
#include <keel/runtime/interval.hpp>
#include <keel/runtime/latch.hpp>
#include <keel/runtime/mutex.hpp>
#include <keel/runtime/pipe.hpp>
#include <keel/runtime/process.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/semaphore.hpp>
#include <keel/runtime/shared_mutex.hpp>
#include <keel/runtime/shielded.hpp>
#include <keel/runtime/signals.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/timer.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/when_any.hpp>
#include <keel/runtime/with_timeout.hpp>
