// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Layout of a loop's shared memory, in 32-bit words: one header, then `slots` rx records, then
 * `slots * txPerSlot` tx records. Addresses are bytes: read them through `rxBytes`, write them
 * through `txBytes`, at `(record * RECORD_WORDS + word) * 4`. Lengths in bytes, ports in host
 * order, addresses 16 bytes in network order with IPv4 as ::ffff:a.b.c.d.
 */

export const HEADER_WORDS = 16;
export const RECORD_WORDS = 16;
export const RECORD_BYTES = 64;

/** Header word: how many tx records are to be sent. The addon sets it back to 0. */
export const HEADER_TX_COUNT = 0;
/** First byte of the header's two float64 clocks. */
export const HEADER_CLOCK_BYTE = 16;

/** In: offset of the payload in the buffer. */
export const RX_OFFSET = 0;
/** In: room for the payload. */
export const RX_CAPACITY = 1;
export const RX_LENGTH = 2;
/** Bits RX_FLAG_*. */
export const RX_FLAGS = 3;
export const RX_PEER_PORT = 4;
export const RX_DESTINATION_PORT = 5;
/** Interface that the datagram came in by; listeners only. */
export const RX_IFINDEX = 6;
/** 4 words = 16 bytes. */
export const RX_PEER = 8;
/** 4 words = 16 bytes: original destination; listeners only. */
export const RX_DESTINATION = 12;

/**
 * With `metadataInBuffer`: bytes before a payload that the kernel fills for a listener's datagram, first a
 * `struct sockaddr` of the peer (written last, so that a family in it says: all is there), then control
 * messages. A datagram whose payload begins nearer to the buffer's start is received without payload.
 */
export const META_BYTES = 128;
export const META_NAME_BYTES = 32;

/** The datagram was longer than the capacity; its tail is lost. */
export const RX_FLAG_TRUNCATED = 1;
/** The original destination and its port are valid. A listener's reply needs them. */
export const RX_FLAG_DESTINATION = 2;
/** Offset and capacity pointed out of the buffer; the payload is lost. */
export const RX_FLAG_REJECTED = 4;

/** Socket to send from. */
export const TX_HANDLE = 0;
export const TX_OFFSET = 1;
export const TX_LENGTH = 2;
/** Destination port; ignored on connected sockets, as are the words below but TX_RESULT. */
export const TX_PORT = 3;
/** Interface to leave by; 0: the route decides (link-local destinations need one). */
export const TX_IFINDEX = 4;
/** Out: 0, or the errno. EAGAIN: the socket was full; EBADF: no such handle; EFAULT: out of the
 * buffer; EAFNOSUPPORT, EINVAL: the address or port does not fit the socket. */
export const TX_RESULT = 5;
/** 4 words = 16 bytes. */
export const TX_DESTINATION = 8;
/** 4 words = 16 bytes: address to send from; zero: the kernel chooses. */
export const TX_SOURCE = 12;
