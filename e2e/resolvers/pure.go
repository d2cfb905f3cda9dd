// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// What Go's own resolver says to the name in the argument: milliseconds, then its addresses or "-" and the error.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	resolver := &net.Resolver{PreferGo: true}
	before := time.Now()
	addresses, err := resolver.LookupHost(context.Background(), os.Args[1])
	milliseconds := time.Since(before).Milliseconds()
	if err != nil {
		fmt.Println(milliseconds, "-", err)
		return
	}
	fmt.Println(milliseconds, strings.Join(addresses, " "))
}
