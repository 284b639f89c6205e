package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Record is one line of the history: an operation with its call and return, a step of a watch, a member's account at the end, or a mark.
// Times are microseconds of CLOCK_MONOTONIC, which is one clock for all processes of a machine.
type Record struct {
	Kind     string `json:"kind"`
	Client   int    `json:"client"`
	Member   int    `json:"member"` // counted from 0; -1: whichever the client library chose
	Called   int64  `json:"called"`
	Returned int64  `json:"returned"`
	// "ok", "refused": it took no effect; "unknown": nobody knows.
	Outcome string `json:"outcome,omitempty"`
	Error   string `json:"error,omitempty"`
	// From the header of the answer.
	Revision int64  `json:"revision,omitempty"`
	Term     uint64 `json:"term,omitempty"`

	Key      string  `json:"key,omitempty"`
	Value    *string `json:"value,omitempty"`    // written, or found by a read
	Expected *string `json:"expected,omitempty"` // by a swap
	Found    *string `json:"found,omitempty"`    // by a swap that was refused
	Modified int64   `json:"modified,omitempty"` // revision at which the value found was set
	Local    bool    `json:"local,omitempty"`    // a serializable read
	Done     bool    `json:"done,omitempty"`     // the swap succeeded, the delete found something

	Lease int64 `json:"lease,omitempty"`
	TTL   int64 `json:"ttl,omitempty"` // seconds

	Watch    int64   `json:"watch,omitempty"`
	RangeEnd string  `json:"range_end,omitempty"`
	Start    int64   `json:"start,omitempty"`
	Previous bool    `json:"previous,omitempty"` // the watch asked for previous values
	Lasting  bool    `json:"lasting,omitempty"`  // the watch lives to the end
	Events   []Event `json:"events,omitempty"`
	Hash     uint32  `json:"hash,omitempty"`
}

// Event is one change of one key.
type Event struct {
	Deleted  bool      `json:"deleted,omitempty"`
	KV       KeyValue  `json:"kv"`
	Previous *KeyValue `json:"previous,omitempty"`
}

// KeyValue is a key's state.
type KeyValue struct {
	Key      string `json:"key"`
	Value    string `json:"value,omitempty"`
	Created  int64  `json:"created,omitempty"`
	Modified int64  `json:"modified,omitempty"`
	Version  int64  `json:"version,omitempty"`
	Lease    int64  `json:"lease,omitempty"`
}

// Recorder writes records to standard output, from any goroutine.
type Recorder struct {
	lock    sync.Mutex
	out     *bufio.Writer
	encoder *json.Encoder
	numbers atomic.Int64
}

func newRecorder() *Recorder {
	out := bufio.NewWriterSize(os.Stdout, 1<<16)
	return &Recorder{out: out, encoder: json.NewEncoder(out)}
}

func (r *Recorder) write(record Record) {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.encoder.Encode(record) != nil {
		os.Exit(4)
	}
}

func (r *Recorder) flush() {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.out.Flush()
}

// unique gives a number that no other write of this run carries.
func (r *Recorder) unique() int64 { return r.numbers.Add(1) }

func now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic(err)
	}
	return at.Nano() / 1000
}
