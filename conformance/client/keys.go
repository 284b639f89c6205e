package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

const (
	// Keys alive at one time.
	slots = 5
	// After so long the writers move to fresh keys: the history of one key stays short enough to be searched.
	generation = 4 * time.Second
)

// end notes the return of an operation, and what is known of its outcome.
func end(record *Record, err error) bool {
	record.Returned = now()
	switch {
	case err == nil:
		record.Outcome = "ok"
	case refused(err):
		record.Outcome, record.Error = "refused", err.Error()
	default:
		record.Outcome, record.Error = "unknown", err.Error()
	}
	return err == nil
}

func (r *Record) take(header *pb.ResponseHeader) {
	r.Revision, r.Term = header.Revision, header.RaftTerm
}

// refused says whether an error leaves no doubt that nothing was changed.
func refused(err error) bool {
	var known rpctypes.EtcdError
	if !errors.As(rpctypes.Error(err), &known) {
		return false
	}
	switch known.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.OutOfRange, codes.ResourceExhausted:
		return true
	}
	return false
}

func (c *Client) key() string {
	age := int64(time.Since(c.began) / generation)
	if age > 0 && c.random.Intn(10) == 0 {
		age--
	}
	return fmt.Sprintf("k%d/%d", c.random.Intn(slots), age)
}

func (c *Client) unique() string { return strconv.FormatInt(c.recorder.unique(), 10) }

func (c *Client) readAndWrite() {
	for c.pause(*think) {
		answered := false
		switch draw := c.random.Intn(100); {
		case draw < 30:
			answered = c.put(c.key())
		case draw < 45:
			answered = c.swap(c.key())
		case draw < 52:
			answered = c.remove(c.key())
		case draw < 58:
			answered = c.putPair()
		case draw < 64:
			answered = c.readPair()
		case draw < 74:
			answered = c.get(c.key(), true)
		default:
			answered = c.get(c.key(), false)
		}
		if !answered && !c.wait(50*time.Millisecond) {
			return
		}
	}
}

// probe shows when this member takes writes.
func (c *Client) probe() {
	key := fmt.Sprintf("p%d", c.member)
	for c.pause(40 * time.Millisecond) {
		c.put(key)
	}
}

func (c *Client) put(key string) bool {
	value := c.unique()
	record := c.begin("put", key)
	record.Value = &value
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Put(limit, key, value)
	ok := end(&record, err)
	if ok {
		record.take(answer.Header)
	}
	c.recorder.write(record)
	if ok {
		c.see(key, &value)
	}
	return ok
}

func (c *Client) get(key string, local bool) bool {
	record := c.begin("get", key)
	record.Local = local
	options := []clientv3.OpOption{}
	if local {
		options = append(options, clientv3.WithSerializable())
	}
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Get(limit, key, options...)
	ok := end(&record, err)
	if ok {
		record.take(answer.Header)
		for _, kv := range answer.Kvs {
			value := string(kv.Value)
			record.Value, record.Modified = &value, kv.ModRevision
		}
	}
	c.recorder.write(record)
	if ok && !local {
		c.see(key, record.Value)
	}
	return ok
}

func (c *Client) remove(key string) bool {
	record := c.begin("delete", key)
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Delete(limit, key)
	ok := end(&record, err)
	if ok {
		record.take(answer.Header)
		record.Done = answer.Deleted > 0
		c.see(key, nil)
	}
	c.recorder.write(record)
	return ok
}

// swap sets a key if it still holds what was seen last, and reads it if not.
func (c *Client) swap(key string) bool {
	expected, value := c.seenLast(key), c.unique()
	record := c.begin("swap", key)
	record.Expected, record.Value = expected, &value
	same := clientv3.Compare(clientv3.Version(key), "=", 0)
	if expected != nil {
		same = clientv3.Compare(clientv3.Value(key), "=", *expected)
	}
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Txn(limit).If(same).Then(clientv3.OpPut(key, value)).Else(clientv3.OpGet(key)).Commit()
	ok := end(&record, err)
	if ok {
		record.take(answer.Header)
		record.Done = answer.Succeeded
		if !answer.Succeeded {
			if kvs := answer.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
				found := string(kvs[0].Value)
				record.Found = &found
			}
			c.see(key, record.Found)
		} else {
			c.see(key, &value)
		}
	}
	c.recorder.write(record)
	return ok
}

// putPair sets two keys in one transaction: whoever sees one sees the other.
func (c *Client) putPair() bool {
	value := c.unique()
	record := c.begin("put-pair", fmt.Sprintf("m%d", c.random.Intn(slots)))
	record.Value = &value
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Txn(limit).Then(clientv3.OpPut(record.Key+"a", value), clientv3.OpPut(record.Key+"b", value)).Commit()
	ok := end(&record, err)
	if ok {
		record.take(answer.Header)
	}
	c.recorder.write(record)
	return ok
}

func (c *Client) readPair() bool {
	record := c.begin("get-pair", fmt.Sprintf("m%d", c.random.Intn(slots)))
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Get(limit, record.Key, clientv3.WithPrefix())
	ok := end(&record, err)
	if ok {
		record.take(answer.Header)
		for _, kv := range answer.Kvs {
			record.Events = append(record.Events, Event{KV: keyValue(kv)})
		}
	}
	c.recorder.write(record)
	return ok
}

func (c *Client) see(key string, value *string) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.seen[key] = value
}

func (c *Client) seenLast(key string) *string {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.seen[key]
}
