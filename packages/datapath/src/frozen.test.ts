// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The layouts that members of different versions share. A test that fails here says that two versions can
 * no longer serve together: new fields go into what is reserved, nothing else moves.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  TD_FQDN_LIVE_MAX,
  TD_FQDN_PAGES_MAX,
  TD_FQDN_SELECTORS_MAX,
  TD_JOURNAL_CELL_BYTES,
  TD_JOURNAL_REGION_CELLS,
  TD_JOURNAL_SLOTS,
  TD_MEMBERS_MAX,
  TD_PAIRS_MAX,
  TD_SLOT_OWNED,
  TD_SLOT_PLACE_MASK,
  TD_SLOT_SPACE_MASK,
  TD_SPACES_MAX,
  tdFqdn,
  tdFqdnKey,
  tdFqdnLive,
  tdFqdnLiveKey,
  tdFqdnSlot,
  tdGroup,
  tdJournalSlot,
  tdJournalState,
  tdLearnBatch,
  tdLearnRequest,
  tdListenerKind,
  tdLiveCounter,
  tdMember,
  tdMemberState,
  tdOrder,
  tdPair,
  tdPairState,
  tdQuota,
  tdSpace,
} from './abi.gen.ts';

/** Without what is free for later versions. */
const used = (layout: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(layout).filter(([field]) => !field.startsWith('reserved')));
/** Every field that version 1 had; later ones may have more, in the same size. */
const has = (layout: Readonly<Record<string, number>>, version1: Record<string, number>): void => {
  assert.deepEqual({ ...used(layout), ...version1 }, used(layout));
};

test('group', () => {
  has(tdGroup, {
    size: 640,
    abi_version: 0,
    required_revision: 4,
    generation: 8,
    drain_token: 12,
    removals: 16,
    applied_revision: 20,
    events_lease: 24,
    events_beat_ms: 28,
    events_lost_told: 32,
    events_limited_told: 36,
    loads: 40,
    agent_abi: 44,
    kept_abi: 48,
    mark: 52,
    port: 56,
    owner_uid: 60,
    settings_load: 64,
    policies: 68,
    member: 128,
  });
  has(tdMember, {
    size: 128,
    beat_ns: 0,
    state: 8,
    pid: 12,
    epoch: 16,
    revision: 24,
    role: 28,
    abi_version: 32,
  });
  assert.equal(TD_MEMBERS_MAX, 4);
  has(tdMemberState, { NONE: 0, LIVE: 1, DRAIN: 2, DEAD: 3 });
});

test('fqdn, fqdn_live, quotas, learn_requests', () => {
  has(tdFqdnKey, { size: 20, addr: 0, page: 16 });
  has(tdFqdnSlot, { size: 12, selector: 0, expires_s: 4, namespace_id: 8 });
  has(tdFqdn, {
    size: 232,
    lock: 0,
    dead: 4,
    self: 8,
    last_used_ns: 24,
    more: 32,
    page: 36,
    slot: 40,
  });
  assert.deepEqual([TD_FQDN_PAGES_MAX, TD_FQDN_SELECTORS_MAX], [4, 16]);
  has(tdFqdnLiveKey, { size: 20, addr: 0, selector: 16 });
  has(tdFqdnLive, { size: 8, until_s: 0, check: 4 });
  assert.deepEqual(
    [TD_FQDN_LIVE_MAX, tdLiveCounter],
    [131072, { PASSED: 0, FULL: 1, COUNTERS: 2 }],
  );
  has(tdQuota, { size: 16, used: 0, limit: 4, refused: 8 });
  has(tdLearnRequest, {
    size: 48,
    addr: 0,
    selector: 16,
    expires_s: 20,
    namespace_id: 24,
    op: 28,
    result: 30,
    aaaa: 32,
  });
  assert.equal(tdLearnBatch.size, 6144);
});

test('learned_order, learned_pairs, learned_spaces', () => {
  has(tdPair, {
    size: 40,
    addr: 0,
    selector: 16,
    space: 20,
    previous: 24,
    next: 28,
    state: 32,
    touched: 36,
  });
  has(tdPairState, { FREE: 0, TAKEN: 1, LINKED: 2, GONE: 3 });
  has(tdSpace, {
    size: 64,
    namespace_id: 0,
    head: 4,
    tail: 8,
    used: 12,
    share: 16,
    limit: 20,
    over_previous: 24,
    over_next: 28,
    is_over: 32,
    replaced: 36,
    yielded: 40,
    refused: 44,
    filled: 48,
  });
  has(tdOrder, {
    size: 64 + TD_SPACES_MAX * 64,
    lock: 0,
    free: 4,
    used_pairs: 8,
    over_head: 12,
    over_tail: 16,
    sequence: 20,
    used_spaces: 24,
    free_space: 28,
    extra_pages: 32,
    told: 36,
    untold: 40,
    space: 64,
  });
  assert.deepEqual(
    [TD_PAIRS_MAX, TD_SPACES_MAX, TD_SLOT_OWNED, TD_SLOT_SPACE_MASK, TD_SLOT_PLACE_MASK],
    [131_072, 4096, 0x8000_0000, 0x1ffe_0000, 0x1_ffff],
  );
});

test('journal and listeners', () => {
  assert.deepEqual(
    [TD_JOURNAL_CELL_BYTES, TD_JOURNAL_REGION_CELLS, TD_JOURNAL_SLOTS],
    [1536, 8456, 8192],
  );
  has(tdJournalSlot, {
    size: 1536,
    client: 0,
    server: 16,
    client_port: 32,
    length: 36,
    client_id: 40,
    received_ms: 44,
    endpoint_id: 48,
    endpoint_ms: 52,
    owner: 64,
    name: 128,
    control: 160,
    message: 256,
  });
  has(tdJournalState, { FREE: 0, RECEIVING: 1, IN_FLIGHT: 2, REPLYING: 3 });
  has(tdListenerKind, { UDP4: 0, TCP4: 1, UDP6: 2, TCP6: 3, KINDS: 4 });
  has(tdListenerKind, { UDP4_HEAVY: 4, UDP6_HEAVY: 5, KINDS_OF_ALL_LANES: 6 });
});
