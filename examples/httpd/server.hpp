// Listeners, the places for clients, and the program's way from start to stop.
#pragma once

#include "options.hpp"

namespace httpd {

// Serves until a signal stops it. Returns the exit code; complaints have been printed.
int serve(const options& chosen);

}  // namespace httpd
