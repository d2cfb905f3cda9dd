// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the CNI gate. */

/** Of one call: the network configuration with the result of the plugins before. */
export const callBytesMax: number = 1 << 20;
/** Concurrent calls. A further call fails with CNI's code 11 (try again later). A node runs at most a few hundred pods. */
export const callsMax = 512;
/** A plugin sends its call at once. */
export const callTimeoutMs = 2000;
/** How long ADD waits for a pod to be enforced; the plugin itself gives up after 20 s. */
export const admitTimeoutMs = 18_000;
/** Sandboxes that are known at once. */
export const sandboxesMax = 2048;
/** Addresses of one sandbox. */
export const sandboxAddressesMax = 16;
/** Interfaces that one result may name. */
export const resultInterfacesMax = 64;
/** Files of the result cache that are read, and octets of each. */
export const cachedResultsMax = 8192;
export const cachedResultBytesMax: number = 1 << 20;
