// The load of `conformance faults`: etcd's own Go client, unmodified, in many hands. Each operation goes to standard output as one line of JSON with
// its call, its return and what is known of its outcome; the oracles read it afterwards. Judges nothing.
//
// Standard input steers: a line "mark MICROS TEXT" is put into the history, "stop" ends the load; then every watch gets time to catch up, and each
// member is asked for its own account: all changes since the beginning, and the hash of its keys.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	// An answer that takes longer is not waited for.
	patience = 2 * time.Second
	// A connection on which nothing comes is tried this often, as `etcdctl` and Kubernetes do it, only sooner.
	keepAlive = 6 * time.Second
)

// The library's own pauses between attempts grow to two minutes, which would hide how soon a member serves again.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 300 * time.Millisecond},
	MinConnectTimeout: patience,
}

var (
	endpoints = flag.String("endpoints", "", "client addresses of all members, comma separated")
	writers   = flag.Int("writers", 9, "clients that read and write keys; each third knows all members, the others one each")
	lessees   = flag.Int("lessees", 4, "clients that hold leases")
	think     = flag.Duration("think", 10*time.Millisecond, "mean pause between two requests of a writer")
	cacert    = flag.String("cacert", "", "authorities to trust; with it TLS is spoken")
	cert      = flag.String("cert", "", "certificate to show")
	key       = flag.String("key", "", "its key")
	seed      = flag.Int64("seed", 1, "seed of all choices")
	guard     = flag.String("guard", "", "no load: put one key under this guard, NAME:TOKEN, and print what came of it")
)

// Load is what all clients share.
type Load struct {
	recorder *Recorder
	members  []string
	running  context.Context
	began    time.Time
	// Values as somebody saw or wrote them last, so that swaps may succeed.
	lock sync.Mutex
	seen map[string]*string
	// Without it plain text is spoken.
	tls *tls.Config
}

func security() *tls.Config {
	if *cacert == "" {
		return nil
	}
	config, err := transport.TLSInfo{TrustedCAFile: *cacert, CertFile: *cert, KeyFile: *key}.ClientConfig()
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(3)
	}
	return config
}

func main() {
	flag.Parse()
	if *guard != "" {
		guarded(*endpoints, *guard, "guard/go")
		return
	}
	running, stop := context.WithCancel(context.Background())
	load := &Load{
		recorder: newRecorder(),
		members:  strings.Split(*endpoints, ","),
		running:  running,
		began:    time.Now(),
		seen:     map[string]*string{},
		tls:      security(),
	}
	first := load.revision()
	watchers := load.startWatchers(first)
	var busy sync.WaitGroup
	begin := func(client int, member int, work func(*Client)) {
		busy.Add(1)
		go func() {
			defer busy.Done()
			c := load.client(client, member)
			defer c.close()
			work(c)
		}()
	}
	n := len(load.members)
	for at := 0; at < n; at++ {
		begin(at, at, (*Client).probe)
	}
	for at := 0; at < *writers; at++ {
		begin(100+at, spread(at, n), (*Client).readAndWrite)
	}
	for at := 0; at < *lessees; at++ {
		begin(200+at, spread(at, n), (*Client).holdLeases)
	}
	steer(load.recorder)
	stop()
	busy.Wait()
	last := load.mark()
	watchers.finish(last)
	load.accounts(last)
	load.recorder.flush()
}

// Every third client knows all members (-1); the others know one, in turn.
func spread(at int, members int) int {
	if at%3 == 2 {
		return -1
	}
	return at % members
}

func steer(recorder *Recorder) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.SplitN(lines.Text(), " ", 3)
		if words[0] == "stop" {
			return
		}
		if words[0] == "mark" && len(words) == 3 {
			at, _ := strconv.ParseInt(words[1], 10, 64)
			recorder.write(Record{Kind: "mark", Member: -1, Called: at, Returned: at, Key: words[2]})
			recorder.flush()
		}
	}
}

// Client is one user of the library.
type Client struct {
	*Load
	number int
	member int
	random *rand.Rand
	etcd   *clientv3.Client
}

func (l *Load) client(number int, member int) *Client {
	addresses := l.members
	if member >= 0 {
		addresses = l.members[member : member+1]
	}
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints:            addresses,
		TLS:                  l.tls,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: patience,
		Logger:               zap.NewNop(),
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(redial)},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(3)
	}
	return &Client{Load: l, number: number, member: member, random: rand.New(rand.NewSource(*seed*1000 + int64(number))), etcd: etcd}
}

func (c *Client) close() { c.etcd.Close() }

// pause waits around a mean; false when the load has ended.
func (c *Client) pause(mean time.Duration) bool {
	return c.wait(time.Duration(c.random.Int63n(int64(2*mean)) + 1))
}

func (c *Client) wait(duration time.Duration) bool {
	select {
	case <-c.running.Done():
		return false
	case <-time.After(duration):
		return true
	}
}

// An operation under way when the load ends is still waited for.
func answerLimit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func (c *Client) begin(kind string, key string) Record {
	return Record{Kind: kind, Client: c.number, Member: c.member, Key: key, Called: now()}
}

// revision waits until the cluster answers.
func (l *Load) revision() int64 {
	c := l.client(0, -1)
	defer c.close()
	for {
		limit, cancel := answerLimit()
		answer, err := c.etcd.Get(limit, "revision")
		cancel()
		if err == nil {
			return answer.Header.Revision
		}
		time.Sleep(50 * time.Millisecond)
	}
}
