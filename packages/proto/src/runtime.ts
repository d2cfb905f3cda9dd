// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Configures protobufjs before any generated code is loaded, for all of this process. Import it first.
//
// `pbjs --force-number` types 64-bit fields as `number`, yet the decoder returns `Long` objects whenever
// the package `long` can be found, and protobufjs 8 depends on it. Without Long the reader makes numbers:
// exact below 2^53, rounded above (boot-time ns pass 2^53 after 104 days: then they are even numbers,
// the same ones at both ends).

import $protobuf from 'protobufjs/minimal.js';

/** The part of protobufjs's utilities that its type declarations call constant. */
const util: { Long: unknown } = $protobuf.util;
util.Long = undefined;
$protobuf.configure();

/** Nesting of messages beyond which decoding fails; ours nest at most 4 deep. */
const messageDepthMax = 16;
$protobuf.Reader.recursionLimit = messageDepthMax;
// Fields of a newer version are skipped, not carried along.
$protobuf.Reader.discardUnknown = true;
