// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Bounds of what goes over the sync and admin sockets. Each message stays below grpcMessageBytesMax by
// construction: the tests encode the largest of each kind.

/** Largest gRPC message that a server or client of ours takes, bytes. */
export const grpcMessageBytesMax: number = 4 * 1024 * 1024;

/** Length of one PolicyUpdate.chunk, bytes. */
export const policyChunkBytes: number = 1024 * 1024;

/** Largest encoded PolicySnapshot, bytes. */
export const snapshotBytesMax: number = 64 * 1024 * 1024;

/** Mappings in one SyncBatch. */
export const syncBatchRecordsMax: number = 1024;

/** Length of SyncBatch.dns_records, and of drop_records. */
export const syncRecordBytesMax: number = 65_536;

/** Addresses in one DnsEvent; its address_count says how many there were. */
export const dnsEventAddressesMax: number = 16;

/** Records in one page of ListEndpoints and ListFqdn. */
export const listPageRecordsMax: number = 1024;

/** Selector ids listed for one FqdnEntry. */
export const fqdnEntrySelectorsMax: number = 64;

/** Names of a peer's address in one ObserveResponse. */
export const observePeerNamesMax: number = 4;

/** Layout version of PolicySnapshot that this code writes and reads. */
export const snapshotSchemaVersion: number = 1;
