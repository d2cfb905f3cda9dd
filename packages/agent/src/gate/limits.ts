// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the CNI gate. */

/** Octets of one call of the plugin: the network configuration, with the result of the plugins before it. */
export const callBytesMax: number = 1 << 20;
/** Calls at once. A further one fails with CNI's code 11 (try again later). A node runs a few hundred pods at most. */
export const callsMax = 512;
/** A connection that has not sent its whole call by then is closed. */
export const callTimeoutMs = 2000;
/** Longest wait of ADD for the enforcement of the pod's policy; the plugin itself gives up after 20 s. */
export const admitTimeoutMs = 18_000;
/** Sandboxes of the agent; a pod beyond them does not start. */
export const sandboxesMax = 2048;
/** Addresses of one sandbox; a result with more is refused. */
export const sandboxAddressesMax = 16;
/** Interfaces that one result may name; a result with more is refused. */
export const resultInterfacesMax = 64;
/** Files of the result cache that are read, and octets of one; others are named in the log. */
export const cachedResultsMax = 8192;
export const cachedResultBytesMax: number = 1 << 20;
