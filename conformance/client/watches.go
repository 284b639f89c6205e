package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// How long the watches and the members get to catch up at the end.
const catchUp = 30 * time.Second

// Watchers are the watches that live as long as the load. The library resumes them by itself; what it gives out must still be gapless.
type Watchers struct {
	load  *Load
	stop  context.CancelFunc
	tasks sync.WaitGroup
	lock  sync.Mutex
	// The last revision that each watch has given out, by its number.
	reached map[int64]int64
}

// startWatchers opens one watch of everything at each member, two that any member may serve, and one that begins in the past again and again.
func (l *Load) startWatchers(revision int64) *Watchers {
	lived, stop := context.WithCancel(context.Background())
	w := &Watchers{load: l, stop: stop, reached: map[int64]int64{}}
	for at := range l.members {
		w.start(lived, int64(at), at, "k", "n", revision+1, true)
	}
	n := int64(len(l.members))
	w.start(lived, n, -1, "k", "l", revision+1, false)
	w.start(lived, n+1, -1, "l", "m", revision+1, true)
	w.tasks.Add(1)
	go func() {
		defer w.tasks.Done()
		w.reopen(n + 2)
	}()
	return w
}

func (w *Watchers) start(lived context.Context, number int64, member int, key string, end string, from int64, previous bool) {
	w.reached[number] = 0
	w.tasks.Add(1)
	go func() {
		defer w.tasks.Done()
		w.follow(lived, number, member, key, end, from, previous)
	}()
}

// reopen watches from a revision in the past, for a while, at any member.
func (w *Watchers) reopen(number int64) {
	c := w.load.client(300, -1)
	defer c.close()
	for ; c.wait(500 * time.Millisecond); number++ {
		limit, cancel := answerLimit()
		answer, err := c.etcd.Get(limit, "revision")
		cancel()
		if err != nil {
			continue
		}
		from := answer.Header.Revision - c.random.Int63n(500)
		if from < 2 {
			from = 2
		}
		while, cancel := context.WithTimeout(w.load.running, 3*time.Second)
		w.follow(while, number, c.random.Intn(len(w.load.members)), "k", "n", from, false)
		cancel()
	}
}

func (w *Watchers) follow(lived context.Context, number int64, member int, key string, end string, from int64, previous bool) {
	c := w.load.client(400, member)
	defer c.close()
	base := Record{Client: 400, Member: member, Watch: number}
	opened := base
	opened.Kind, opened.Key, opened.RangeEnd, opened.Start, opened.Previous = "watch", key, end, from, previous
	opened.Lasting = number < int64(len(w.load.members))+2
	opened.Called = now()
	w.load.recorder.write(opened)
	options := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithRev(from), clientv3.WithCreatedNotify(), clientv3.WithFragment()}
	if previous {
		options = append(options, clientv3.WithPrevKV())
	}
	go askForProgress(lived, c)
	for answer := range c.etcd.Watch(lived, key, options...) {
		record := base
		record.Called, record.Revision, record.Term = now(), answer.Header.Revision, answer.Header.RaftTerm
		switch {
		case answer.Err() != nil:
			// A watch that this program ends itself shows no error.
			record.Kind, record.Error, record.Modified = "ended", answer.Err().Error(), answer.CompactRevision
		case answer.Created:
			record.Kind = "created"
		case answer.IsProgressNotify():
			record.Kind = "progress"
		default:
			record.Kind = "events"
			for _, event := range answer.Events {
				record.Events = append(record.Events, told(event))
			}
		}
		record.Returned = record.Called
		w.load.recorder.write(record)
		if len(answer.Events) > 0 {
			w.lock.Lock()
			w.reached[number] = answer.Events[len(answer.Events)-1].Kv.ModRevision
			w.lock.Unlock()
		}
	}
}

func askForProgress(lived context.Context, c *Client) {
	for {
		select {
		case <-lived.Done():
			return
		case <-time.After(700 * time.Millisecond):
			c.etcd.RequestProgress(lived)
		}
	}
}

// mark makes one last change in every range that is watched, and gives the revision of the first.
func (l *Load) mark() int64 {
	c := l.client(1, -1)
	defer c.close()
	first := int64(0)
	for _, key := range []string{"kend", "lend", "mend"} {
		for !c.put(key) {
			time.Sleep(100 * time.Millisecond)
		}
	}
	limit, cancel := answerLimit()
	defer cancel()
	if answer, err := c.etcd.Get(limit, "kend"); err == nil && len(answer.Kvs) > 0 {
		first = answer.Kvs[0].ModRevision
	}
	return first
}

// finish gives the watches time to reach the last changes, then ends them.
func (w *Watchers) finish(last int64) {
	until := time.Now().Add(catchUp)
	for time.Now().Before(until) && !w.all(last) {
		time.Sleep(20 * time.Millisecond)
	}
	// The last response may hold more changes than the first of the last ones.
	time.Sleep(300 * time.Millisecond)
	w.stop()
	w.tasks.Wait()
}

func (w *Watchers) all(last int64) bool {
	w.lock.Lock()
	defer w.lock.Unlock()
	for number := int64(0); number < int64(len(w.load.members))+2; number++ {
		if w.reached[number] < last {
			return false
		}
	}
	return true
}

// accounts asks each member for all changes since the beginning, and for the hash of its keys at a revision that all have.
func (l *Load) accounts(common int64) {
	for at := range l.members {
		if err := l.account(at, common); err != nil {
			l.recorder.write(Record{Kind: "no-account", Member: at, Called: now(), Error: err.Error()})
		}
	}
}

func (l *Load) account(member int, common int64) error {
	c := l.client(2, member)
	defer c.close()
	limit, cancel := context.WithTimeout(context.Background(), catchUp)
	defer cancel()
	newest, err := c.etcd.Get(limit, "revision")
	if err != nil {
		return err
	}
	last := newest.Header.Revision
	record := Record{Kind: "account", Member: member, Revision: last}
	if last > 1 {
		for answer := range c.etcd.Watch(limit, "\x00", clientv3.WithFromKey(), clientv3.WithRev(2)) {
			if answer.Err() != nil {
				return answer.Err()
			}
			for _, event := range answer.Events {
				record.Events = append(record.Events, told(event))
			}
			if len(record.Events) > 0 && record.Events[len(record.Events)-1].KV.Modified >= last {
				break
			}
		}
	}
	if len(record.Events) == 0 || record.Events[len(record.Events)-1].KV.Modified < last {
		return fmt.Errorf("its watch from the beginning has not reached revision %d", last)
	}
	hash, err := c.etcd.HashKV(limit, l.members[member], common)
	if err != nil {
		return err
	}
	record.Hash, record.Start = hash.Hash, common
	record.Called = now()
	record.Returned = record.Called
	l.recorder.write(record)
	return nil
}

func told(event *clientv3.Event) Event {
	told := Event{Deleted: event.Type == clientv3.EventTypeDelete, KV: keyValue(event.Kv)}
	if event.PrevKv != nil {
		previous := keyValue(event.PrevKv)
		told.Previous = &previous
	}
	return told
}

func keyValue(kv *mvccpb.KeyValue) KeyValue {
	if kv == nil {
		fmt.Fprintln(os.Stderr, "client: an event without a key")
		os.Exit(3)
	}
	return KeyValue{Key: string(kv.Key), Value: string(kv.Value), Created: kv.CreateRevision, Modified: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
}
