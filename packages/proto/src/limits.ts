// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Bounds of what goes over the sync and admin sockets. Each message stays below GRPC_MESSAGE_BYTES_MAX by
// construction: the tests encode the largest of each kind.

/** Largest gRPC message that a server or client of ours takes, bytes. */
export const GRPC_MESSAGE_BYTES_MAX: number = 4 * 1024 * 1024;

/** Length of one PolicyUpdate.chunk, bytes. */
export const POLICY_CHUNK_BYTES: number = 1024 * 1024;

/** Largest encoded PolicySnapshot, bytes. */
export const SNAPSHOT_BYTES_MAX: number = 64 * 1024 * 1024;

/** Records of all kinds in one SyncBatch. */
export const SYNC_BATCH_RECORDS_MAX: number = 1024;

/** Addresses in one DnsEvent; its address_count says how many there were. */
export const DNS_EVENT_ADDRESSES_MAX: number = 16;

/** Records in one page of ListEndpoints and ListFqdn. */
export const LIST_PAGE_RECORDS_MAX: number = 1024;

/** Selector ids listed for one FqdnEntry. */
export const FQDN_ENTRY_SELECTORS_MAX: number = 64;

/** Names of a peer's address in one ObserveResponse. */
export const OBSERVE_PEER_NAMES_MAX: number = 4;

/** Layout version of PolicySnapshot that this code writes and reads. */
export const SNAPSHOT_SCHEMA_VERSION: number = 1;
