// TCP: streams, listeners, and a server in one line.
#pragma once

#include <keel/net/serve.hpp>
#include <keel/net/tcp_listener.hpp>
#include <keel/net/tcp_stream.hpp>
