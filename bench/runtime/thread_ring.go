// thread-ring: 503 goroutines in a ring pass a token N times, each through its own channel without room.
//
//	go build -o /tmp/thread_ring thread_ring.go && /tmp/thread_ring [PASSES]
//
// thread_ring.py runs it beside keel's.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

const members = 503

func member(in <-chan uint64, out chan<- uint64, name int, last chan<- int) {
	for {
		left := <-in
		if left == 0 {
			last <- name
			return
		}
		out <- left - 1
	}
}

func main() {
	passes := uint64(10_000_000)
	if len(os.Args) > 1 {
		passes, _ = strconv.ParseUint(os.Args[1], 10, 64)
	}
	first := make(chan uint64)
	last := make(chan int)
	in := first
	for i := 1; i <= members; i++ {
		out := first
		if i < members {
			out = make(chan uint64)
		}
		go member(in, out, i, last)
		in = out
	}
	begin := time.Now()
	first <- passes
	name := <-last
	ns := float64(time.Since(begin).Nanoseconds()) / float64(passes)
	fmt.Printf("{\"bench\": \"thread_ring\", \"what\": \"go\", \"ns\": %.1f, \"passes\": %d, \"last\": %d}\n",
		ns, passes, name)
}
