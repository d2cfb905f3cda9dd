// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One schedule from its seed to its verdict: some hundred steps with faults, then the heal, then the checks. */

import { collectMappings, compareMappings, type FqdnMapping } from '@tandem/core/fqdn/merge';
import type { Counts } from './oracle.ts';
import type { Excuse } from './sim-query.ts';
import { healBoundMs } from './sizes.ts';
import { names } from './universe.ts';
import { selectorFacts } from './universe-policies.ts';
import type { Violation } from './violation.ts';
import { World, type WorldOptions } from './world.ts';

export interface Outcome {
  readonly seed: number;
  readonly violation: Violation | null;
  readonly hash: number;
  readonly counts: Counts;
  readonly excused: ReadonlyMap<Excuse, number>;
  readonly virtualMs: number;
  readonly lines: readonly string[];
}

const healStepNs = 20e6;

export function runSchedule(options: WorldOptions): Outcome {
  const world = new World(options);
  const beganNs = world.nowNs;
  const { oracle } = world;
  try {
    while (world.stepsLeft > 0 && oracle.violation === null) world.step();
    if (oracle.violation === null) heal(world);
  } catch (error) {
    oracle.fail(7, error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return {
    seed: options.seed,
    violation: oracle.violation,
    hash: world.trace.hash,
    counts: oracle.counts,
    excused: oracle.excused,
    virtualMs: (world.nowNs - beganNs) / 1e6,
    lines: world.trace.lines,
  };
}

function heal(world: World): void {
  const { oracle, trace, faults } = world;
  trace.note('all heals');
  world.stepsLeft = 0;
  faults.heal();
  surviveAlone(world);
  faults.restart();
  const deadlineNs = world.nowNs + healBoundMs * 1e6;
  const waitsForTimeouts = world.random.chance(0.05);
  let difference = 'not at rest';
  while (world.nowNs < deadlineNs && oracle.violation === null) {
    world.pass(healStepNs);
    world.turnAll();
    if (!isQuiet(world, waitsForTimeouts)) continue;
    const found = differenceOf(world);
    if (found === null) {
      oracle.settle();
      closeConnections(world);
      return;
    }
    difference = found;
  }
  oracle.settle();
  oracle.fail(
    3,
    `${healBoundMs} ms after the heal: ${isQuiet(world, false) ? difference : unrest(world)}`,
  );
}

const aloneMs = 600;
/** Younger queries are replayed for certain. */
const youngNs = 3000e6;

/** Lets the survivor finish the other's work without waiting for it to come back. */
function surviveAlone(world: World): void {
  const { oracle } = world;
  const living = world.lives.filter((life) => life !== null);
  const [survivor] = living;
  if (living.length !== 1 || survivor?.worker?.member.hasJoined !== true || survivor.isDraining)
    return;
  world.startNs.fill(Infinity);
  const open = oracle.queries.filter(
    ({ answers, askedNs, client }) =>
      client === null && answers === 0 && world.nowNs - askedNs < youngNs,
  );
  const unaccepted = world.tcp.connections.filter(({ isAccepted }) => !isAccepted);
  for (let ms = 0; ms < aloneMs; ms += healStepNs / 1e6) {
    world.pass(healStepNs);
    world.turnAll();
  }
  if (survivor.isDead) return;
  for (const { number, answers, excuse, lostForwards, forwarders } of open) {
    // What it forwarded itself waits for a slow server.
    if (answers > 0 || excuse !== null || lostForwards > 0 || forwarders.has(survivor.name))
      continue;
    oracle.fail(2, `query ${number} is left in the hands of the dead by ${survivor.name}`);
  }
  for (const { number, isAccepted, isOver } of unaccepted) {
    if (!isAccepted && !isOver)
      oracle.fail(2, `connection ${number} is left unaccepted by ${survivor.name}`);
  }
}

/** A connection whose client has gone ends when its queries are answered, or their time is up. */
const closeMs = 12_000;

/** Pods close their connections: what these held is given back. */
function closeConnections(world: World): void {
  const { oracle, lives, tcp, random } = world;
  if (tcp.clients.length === 0) return;
  tcp.closeAll();
  // Connections to servers are kept for a while for the pods' next ones.
  const waitsForKept = random.chance(0.03);
  let leaks: string[] = [];
  for (let ms = 0; ms < closeMs && oracle.violation === null; ms += healStepNs / 1e6) {
    leaks = lives.flatMap((life) => {
      const leak = life?.worker?.leak(waitsForKept) ?? null;
      return leak === null ? [] : [`${life?.name} keeps ${leak}`];
    });
    if (leaks.length === 0) return;
    world.pass(healStepNs);
    world.turnAll();
  }
  if (leaks.length > 0) oracle.fail(6, `without any connection ${leaks.join(', ')}`);
}

function isQuiet(world: World, waitsForTimeouts: boolean): boolean {
  const { oracle, lives } = world;
  for (const life of lives) {
    const { worker } = life ?? {};
    if (
      life === null ||
      worker == null ||
      !worker.member.hasJoined ||
      life.isDraining ||
      !life.main.isIdle
    )
      return false;
    if (worker.inbox.length > 0 || worker.slots.hasLeftovers) return false;
    if (!world.links.isLinked(life)) return false;
    if (life.main.revision !== lives[0]?.main.revision) return false;
    if (waitsForTimeouts && worker.slots.inFlight > 0) return false;
  }
  if (
    !world.links.isIdle ||
    lives[0]?.main.agent?.applied !== world.desired ||
    !world.upstream.isIdle ||
    !world.tcp.isQuiet
  )
    return false;
  return oracle.queries.every(
    ({ answers, excuse, lostForwards, client }) =>
      answers > 0 ||
      excuse !== null ||
      client?.isOver === true ||
      (lostForwards > 0 && (client === null || !waitsForTimeouts)),
  );
}

function unrest(world: World): string {
  const lives = world.lives.map((life) =>
    life === null
      ? 'gone'
      : `${life.name} joined ${life.worker?.member.hasJoined} linked ${world.links.isLinked(life)} draining ${life.isDraining} idle ${life.main.isIdle} revision ${life.main.revision} leftovers ${life.worker?.slots.leftovers().length}`,
  );
  return `no rest: ${lives.join('; ')}; applied ${world.lives[0]?.main.agent?.applied} of ${world.desired}`;
}

/** Difference between the two caches and the map; null: none. */
function differenceOf(world: World): string | null {
  const [a = [], b = []] = world.lives.map((life) => {
    const mappings: FqdnMapping[] = [];
    if (life !== null)
      collectMappings(life.main.store.cache, world.bootSeconds, 1, Infinity, mappings);
    return mappings.sort(compareMappings);
  });
  if (a.length !== b.length) return `the caches have ${a.length} and ${b.length} mappings`;
  for (const [i, mapping] of a.entries()) {
    const other = b[i] as FqdnMapping;
    if (compareMappings(mapping, other) !== 0 || mapping.expires !== other.expires)
      return `mapping ${i} of the caches differs`;
    const missing = missingInMap(world, mapping);
    if (missing !== null) return missing;
  }
  return null;
}

/** Learned expiries may lag by this share of the grace (extensionGraceShare). */
const slackSeconds = 1;

function missingInMap(world: World, { name, address, expires, scope }: FqdnMapping): string | null {
  if (world.fqdn.refused + world.fqdn.evicted > 0) return null;
  const index = names.findIndex(
    ({ wire }) => wire.length === name.length && wire.every((octet, i) => octet === name[i]),
  );
  const host = new DataView(address.buffer, address.byteOffset).getUint32(12, true);
  for (const { id } of world.lives[0]?.main.policy?.compiled.members.selectors ?? []) {
    const facts = selectorFacts.get(id);
    if (facts === undefined || !facts.names.has(index) || facts.policyId !== scope) continue;
    const kept = world.fqdn.expiresOf(host, id);
    if (kept + slackSeconds < expires)
      return `${names[index]?.text} is known until ${expires}, the map has its address until ${kept} for selector ${id} of policy ${scope}`;
  }
  return null;
}
