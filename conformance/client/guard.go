package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Puts a key under a guard and prints what came of it, for `conformance guards`.
func guarded(endpoints, guard, key string) {
	var trailer metadata.MD
	// The library gives no trailers to its caller; an interceptor sees them.
	see := func(ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		return invoke(ctx, method, request, reply, cc, append(options, grpc.Trailer(&trailer))...)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(endpoints, ","),
		DialTimeout: patience,
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(see)},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(3)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "synod-guard", guard)
	if _, err := client.Put(ctx, key, "guarded"); err != nil {
		told := status.Convert(err)
		fmt.Printf("%v %s: %s\n", told.Code(), strings.Join(trailer.Get("synod-reason"), ","), told.Message())
		return
	}
	fmt.Println("ok")
}
