// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// agnhost on kernels without SCTP sockets: `connect --protocol=sctp` and the SCTP ports of `porter` speak SCTP (RFC 9260) over raw
// sockets, an association and one message each way. `connect` says that it connected, so that a stream of exec that was cut is not taken for
// that. Everything else is the real agnhost, beside this program.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

const (
	original   = "/agnhost-of-kubernetes"
	portPrefix = "SERVE_SCTP_PORT_"
	protocol   = "ip4:132"

	headerLength = 12
	chunkHeader  = 4
	packetMax    = 1500
	resendAfter  = time.Second
	window       = 65536
)

// Types of chunks.
const (
	data       = 0
	initiate   = 1
	initAck    = 2
	sack       = 3
	abort      = 6
	cookieEcho = 10
	cookieAck  = 11
)

// Parameter of an INIT ACK.
const stateCookie = 7

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func main() {
	arguments := os.Args[1:]
	command := ""
	if len(arguments) > 0 {
		command = arguments[0]
	}
	switch command {
	case "connect":
		status := 0
		if target, timeout := sctpTarget(arguments[1:]); target != "" {
			status = connect(target, timeout)
		} else {
			status = connectByOriginal(arguments)
		}
		if status == 0 {
			fmt.Println("CONNECTED")
		}
		os.Exit(status)
	case "serve-sctp":
		serve(arguments[1:])
	case "porter":
		startServer()
	}
	err := syscall.Exec(original, append([]string{original}, arguments...), environment())
	log.Fatalf("%s: %v", original, err)
}

// Its exit status.
func connectByOriginal(arguments []string) int {
	child := exec.Command(original, arguments...)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := child.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		log.Fatalf("%s: %v", original, err)
	}
	return child.ProcessState.ExitCode()
}

// Target and timeout of a connection over SCTP; "" when it is one of another protocol.
func sctpTarget(arguments []string) (string, time.Duration) {
	target, isSctp, timeout := "", false, time.Minute
	for _, argument := range arguments {
		switch name, value, _ := strings.Cut(argument, "="); name {
		case "--protocol":
			isSctp = value == "sctp"
		case "--timeout":
			if parsed, err := time.ParseDuration(value); err == nil && parsed > 0 {
				timeout = parsed
			}
		default:
			target = argument
		}
	}
	if !isSctp {
		return "", 0
	}
	return target, timeout
}

// A child, because what becomes the real agnhost has no goroutines of this program.
func startServer() {
	var ports []string
	for _, each := range os.Environ() {
		name, _, _ := strings.Cut(each, "=")
		if port, found := strings.CutPrefix(name, portPrefix); found {
			ports = append(ports, port)
		}
	}
	if len(ports) == 0 {
		return
	}
	child := exec.Command("/proc/self/exe", append([]string{"serve-sctp"}, ports...)...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		log.Fatalf("serve-sctp: %v", err)
	}
}

// The real agnhost ends when it is to listen on SCTP and the kernel has none.
func environment() []string {
	var kept []string
	for _, each := range os.Environ() {
		if !strings.HasPrefix(each, portPrefix) {
			kept = append(kept, each)
		}
	}
	return kept
}

type packet struct {
	source, destination uint16
	tag                 uint32
	chunks              []byte
}

func (p packet) encode() []byte {
	bytes := make([]byte, headerLength, headerLength+len(p.chunks))
	binary.BigEndian.PutUint16(bytes[0:], p.source)
	binary.BigEndian.PutUint16(bytes[2:], p.destination)
	binary.BigEndian.PutUint32(bytes[4:], p.tag)
	bytes = append(bytes, p.chunks...)
	binary.LittleEndian.PutUint32(bytes[8:], crc32.Checksum(bytes, castagnoli))
	return bytes
}

// False: no packet of SCTP, or one whose checksum is wrong.
func decode(bytes []byte) (packet, bool) {
	if len(bytes) < headerLength+chunkHeader {
		return packet{}, false
	}
	sum := binary.LittleEndian.Uint32(bytes[8:])
	binary.LittleEndian.PutUint32(bytes[8:], 0)
	if crc32.Checksum(bytes, castagnoli) != sum {
		return packet{}, false
	}
	return packet{
		source:      binary.BigEndian.Uint16(bytes[0:]),
		destination: binary.BigEndian.Uint16(bytes[2:]),
		tag:         binary.BigEndian.Uint32(bytes[4:]),
		chunks:      bytes[headerLength:],
	}, true
}

func (p packet) reply(chunks []byte) packet {
	return packet{p.destination, p.source, p.tag, chunks}
}

// The body of the first chunk of a type; nil when there is none.
func (p packet) chunk(kind byte) []byte {
	rest := p.chunks
	for len(rest) >= chunkHeader {
		length := int(binary.BigEndian.Uint16(rest[2:]))
		if length < chunkHeader || length > len(rest) {
			return nil
		}
		if rest[0] == kind {
			return rest[chunkHeader:length:length]
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	return nil
}

func chunk(kind, flags byte, body []byte) []byte {
	length := chunkHeader + len(body)
	bytes := make([]byte, (length+3)&^3)
	bytes[0], bytes[1] = kind, flags
	binary.BigEndian.PutUint16(bytes[2:], uint16(length))
	copy(bytes[chunkHeader:], body)
	return bytes
}

// INIT and INIT ACK, which differ in their parameters.
func opening(kind byte, tag uint32, parameters []byte) []byte {
	body := make([]byte, 16, 16+len(parameters))
	binary.BigEndian.PutUint32(body[0:], tag)
	binary.BigEndian.PutUint32(body[4:], window)
	binary.BigEndian.PutUint16(body[8:], 1)
	binary.BigEndian.PutUint16(body[10:], 1)
	binary.BigEndian.PutUint32(body[12:], tag) // initial TSN
	return chunk(kind, 0, append(body, parameters...))
}

// The only message of a direction, whole in one chunk.
func message(tsn uint32, text string) []byte {
	const wholeMessage = 3
	body := make([]byte, 12, 12+len(text))
	binary.BigEndian.PutUint32(body, tsn)
	return chunk(data, wholeMessage, append(body, text...))
}

func acknowledge(tsn uint32) []byte {
	body := make([]byte, 12)
	binary.BigEndian.PutUint32(body[0:], tsn)
	binary.BigEndian.PutUint32(body[4:], window)
	return chunk(sack, 0, body)
}

// Both ends have one tag, which is the first TSN of each too, and also the cookie: so the server keeps nothing of an association.
func answer(p packet) []byte {
	if opened := p.chunk(initiate); len(opened) >= 16 && p.tag == 0 {
		tag := binary.BigEndian.Uint32(opened)
		cookie := make([]byte, 8)
		binary.BigEndian.PutUint16(cookie[0:], stateCookie)
		binary.BigEndian.PutUint16(cookie[2:], uint16(len(cookie)))
		binary.BigEndian.PutUint32(cookie[4:], tag)
		reply := p.reply(opening(initAck, tag, cookie))
		reply.tag = tag
		return reply.encode()
	}
	if cookie := p.chunk(cookieEcho); len(cookie) == 4 && binary.BigEndian.Uint32(cookie) == p.tag {
		return p.reply(chunk(cookieAck, 0, nil)).encode()
	}
	if p.chunk(data) != nil {
		return p.reply(append(acknowledge(p.tag), message(p.tag, "hello")...)).encode()
	}
	return nil
}

// Answers from the address that was asked: on a node's network it is not the one that its route would choose.
func serve(ports []string) {
	served := map[uint16]bool{}
	for _, text := range ports {
		port, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			log.Fatalf("%s%s: no port", portPrefix, text)
		}
		served[uint16(port)] = true
	}
	listener, err := net.ListenPacket(protocol, "0.0.0.0")
	if err != nil {
		log.Fatalf("raw socket: %v", err)
	}
	raw, err := ipv4.NewRawConn(listener)
	if err != nil {
		log.Fatalf("raw socket: %v", err)
	}
	buffer := make([]byte, packetMax)
	for {
		header, payload, _, err := raw.ReadFrom(buffer)
		if err != nil {
			log.Fatalf("raw socket: %v", err)
		}
		received, ok := decode(payload)
		if !ok || !served[received.destination] {
			continue
		}
		bytes := answer(received)
		if bytes == nil {
			continue
		}
		reply := &ipv4.Header{
			Version: ipv4.Version, Len: ipv4.HeaderLen, TotalLen: ipv4.HeaderLen + len(bytes),
			TTL: 64, Protocol: 132, Src: header.Dst, Dst: header.Src,
		}
		if err := raw.WriteTo(reply, bytes, nil); err != nil {
			log.Printf("to %s: %v", header.Src, err)
		}
	}
}

// Gives the exit code, having said what agnhost says of each.
func connect(target string, timeout time.Duration) int {
	err := exchange(target, time.Now().Add(timeout))
	switch {
	case err == nil:
		return 0
	case errors.Is(err, os.ErrDeadlineExceeded):
		fmt.Fprintln(os.Stderr, "TIMEOUT")
	case errors.Is(err, syscall.ECONNREFUSED):
		fmt.Fprintln(os.Stderr, "REFUSED")
	default:
		fmt.Fprintf(os.Stderr, "OTHER: %v\n", err)
	}
	return 1
}

type client struct {
	connection  *net.IPConn
	source      uint16
	destination uint16
	tag         uint32
	deadline    time.Time
}

func exchange(target string, deadline time.Time) error {
	host, text, err := net.SplitHostPort(target)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return err
	}
	address, err := net.ResolveIPAddr("ip4", host)
	if err != nil {
		return err
	}
	connection, err := net.DialIP(protocol, nil, address)
	if err != nil {
		return err
	}
	defer connection.Close()
	own := client{connection, uint16(32768 + rand.IntN(28000)), uint16(port), rand.Uint32() | 1, deadline}
	answered, err := own.ask(0, opening(initiate, own.tag, nil), initAck)
	if err != nil {
		return err
	}
	if len(answered) < 24 {
		return errors.New("an INIT ACK without a cookie")
	}
	peer := binary.BigEndian.Uint32(answered)
	if _, err := own.ask(peer, chunk(cookieEcho, 0, answered[20:24]), cookieAck); err != nil {
		return err
	}
	if _, err := own.ask(peer, message(own.tag, "hostname"), data); err != nil {
		return err
	}
	return own.send(peer, chunk(abort, 0, nil))
}

func (c client) send(tag uint32, chunks []byte) error {
	_, err := c.connection.Write(packet{c.source, c.destination, tag, chunks}.encode())
	return err
}

// Sends again until a chunk of this type comes back; gives its body.
func (c client) ask(tag uint32, chunks []byte, wanted byte) ([]byte, error) {
	buffer := make([]byte, packetMax)
	for {
		if err := c.send(tag, chunks); err != nil {
			return nil, err
		}
		until := time.Now().Add(resendAfter)
		if until.After(c.deadline) {
			until = c.deadline
		}
		for {
			if err := c.connection.SetReadDeadline(until); err != nil {
				return nil, err
			}
			length, _, err := c.connection.ReadFrom(buffer) // Read would leave the IP header
			if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(c.deadline) {
				break
			}
			if err != nil {
				return nil, err
			}
			received, ok := decode(buffer[:length])
			if !ok || received.source != c.destination || received.destination != c.source || received.tag != c.tag {
				continue
			}
			if received.chunk(abort) != nil {
				return nil, syscall.ECONNREFUSED
			}
			if body := received.chunk(wanted); body != nil {
				return body, nil
			}
		}
	}
}
