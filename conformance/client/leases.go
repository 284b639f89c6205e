package main

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// holdLeases grants a lease, attaches two keys to it, renews it for a while, and then revokes it or falls silent. Watches see how the keys go.
func (c *Client) holdLeases() {
	for number := 0; c.pause(200 * time.Millisecond); number++ {
		lease, ttl, ok := c.grant(int64(2 + c.random.Intn(3)))
		if !ok {
			continue
		}
		for _, half := range []string{"a", "b"} {
			c.attach(fmt.Sprintf("l%d/%d%s", c.number, number, half), lease)
		}
		held := true
		for renewals := c.random.Intn(8); held && renewals > 0; renewals-- {
			if !c.wait(ttl / 4) {
				return
			}
			held = c.renew(lease)
		}
		switch {
		case !held:
		case c.random.Intn(3) == 0:
			c.revoke(lease)
		default:
			c.wait(ttl)
		}
	}
}

func (c *Client) grant(seconds int64) (int64, time.Duration, bool) {
	record := c.begin("grant", "")
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Grant(limit, seconds)
	ok := end(&record, err)
	if ok {
		record.take(answer.ResponseHeader)
		record.Lease, record.TTL = int64(answer.ID), answer.TTL
	}
	c.recorder.write(record)
	return record.Lease, time.Duration(record.TTL) * time.Second, ok
}

func (c *Client) attach(key string, lease int64) {
	value := c.unique()
	record := c.begin("put", key)
	record.Value, record.Lease = &value, lease
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Put(limit, key, value, clientv3.WithLease(clientv3.LeaseID(lease)))
	if end(&record, err) {
		record.take(answer.Header)
	}
	c.recorder.write(record)
}

// renew is false when the lease is known to be gone.
func (c *Client) renew(lease int64) bool {
	record := c.begin("renew", "")
	record.Lease = lease
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.KeepAliveOnce(limit, clientv3.LeaseID(lease))
	if end(&record, err) {
		record.take(answer.ResponseHeader)
		record.TTL = answer.TTL
	}
	c.recorder.write(record)
	return !errors.Is(err, rpctypes.ErrLeaseNotFound)
}

func (c *Client) revoke(lease int64) {
	record := c.begin("revoke", "")
	record.Lease = lease
	limit, cancel := answerLimit()
	defer cancel()
	answer, err := c.etcd.Revoke(limit, clientv3.LeaseID(lease))
	if end(&record, err) {
		record.take(answer.Header)
	}
	c.recorder.write(record)
}
