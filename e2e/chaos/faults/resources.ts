// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A full disk, a full map, a wall clock that jumps, a policy that changes. */

import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TD_FQDN_MAX, tdFqdn, tdFqdnKey } from '@tandem/datapath/abi.gen';
import { Datapath } from '@tandem/datapath/datapath';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { waitFor } from '@tandem/testing/wait';
import { dnsPolicy } from '../../kit/objects.ts';
import type { ProcessName, TandemNode } from '../../kit/tandem-node.ts';
import { fillerFirstByte } from '../names.ts';
import { processes, type Stage } from '../stage.ts';
import type { Fault } from './fault.ts';

export const diskBytes: number = 4 << 20;
const dayNs = 86_400_000_000_000n;
const jumpedMs = 1000;
const batch = 4096;
/** Twice the interval of reconciliation. */
const savedWithinMs = 10_000;

/** Where a process's preloaded clock reads by how much it is wrong. */
export const clockFile = (directory: string, name: ProcessName): string =>
  join(directory, `clock-${name}`);

export function setClock(directory: string, name: ProcessName, offsetNs: bigint): void {
  writeFileSync(clockFile(directory, name), new Uint8Array(BigInt64Array.of(offsetNs).buffer), {
    flag: 'r+',
  });
}

const clockJump: Fault = {
  name: 'clock jump',
  what: "the process's wall clock jumps by a day, forwards or backwards, and back",
  victims: processes,
  inject: async (context, victim) => {
    const { tandem, random } = context.stage;
    const name = victim as ProcessName;
    setClock(tandem.directory, name, random.fraction() < 0.5 ? dayNs : -dayNs);
    await delay(jumpedMs);
    setClock(tandem.directory, name, 0n);
    context.mark('clock right');
  },
};

/** Fills what is left of the disk of the run and state directories, to the last byte. */
export function fillDisk({ disk }: TandemNode): AsyncDisposable {
  const file = join(disk, 'filler');
  const { bavail, bsize } = statfsSync(disk);
  try {
    writeFileSync(file, new Uint8Array(bavail * bsize));
  } catch (error) {
    // Another process took a page of it meanwhile: full is full.
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
  return { [Symbol.asyncDispose]: async () => rmSync(file) };
}

let nextPolicy = 0;

/** Another policy for the pods that ask. */
function writePolicy({ tandem }: Stage): void {
  const name = `later-${nextPolicy++}`;
  const names = [{ matchPattern: `*.${name}.test` }];
  tandem.write(`${name}.yaml`, [
    dnsPolicy({ name, selects: { asks: 'chaos' }, dns: names, fqdns: names }),
  ]);
}

/** Resolves when it is in force. */
async function changePolicy(stage: Stage): Promise<void> {
  const before = stage.tandem.appliedRevision();
  writePolicy(stage);
  await stage.tandem.waitForRevision(before);
}

const policyChange: Fault = {
  name: 'policy change',
  what: 'another policy for the pods that ask: what was allowed stays so all the time',
  victims: ['policy'],
  inject: async (context) => {
    await changePolicy(context.stage);
    context.mark('policy in force');
  },
};

const policyWhileAway: Fault = {
  name: 'policy while away',
  what: 'the agent is killed, a policy changes, the agent is started again',
  victims: ['agent'],
  inject: async (context) => {
    const { stage } = context;
    await stage.tandem.kill('agent');
    const before = stage.tandem.appliedRevision();
    writePolicy(stage);
    context.restarted(await stage.restart('agent'));
    await stage.tandem.waitForRevision(before);
    context.mark('policy in force');
  },
};

/** Checks that a snapshot that did not fit on the full disk is written when the disk has room. */
async function checkSaved({ tandem }: Stage): Promise<void> {
  const path = join(tandem.disk, 'state', 'policy.snapshot');
  const isSaved = async (): Promise<boolean> => {
    const read = await readSnapshotFile(path);
    const decoded = read.ok ? decodePolicySnapshot(read.value) : null;
    return decoded?.ok === true && decoded.value.revision === tandem.appliedRevision();
  };
  await waitFor(isSaved, { what: 'the snapshot to be written', timeoutMs: savedWithinMs });
}

const diskFull: readonly Fault[] = [
  {
    name: 'disk full: policy',
    what: 'no byte left for state and sockets while a policy changes',
    victims: ['disk'],
    prepare: async ({ tandem }) => fillDisk(tandem),
    inject: async (context) => {
      await changePolicy(context.stage);
      context.mark('policy in force');
    },
    check: checkSaved,
  },
  {
    name: 'disk full: restart',
    what: 'no byte left for state and sockets while a process is killed and started again',
    victims: processes,
    prepare: async ({ tandem }) => fillDisk(tandem),
    inject: async (context, victim) => {
      await context.stage.tandem.kill(victim as ProcessName);
      context.restarted(await context.stage.restart(victim as ProcessName));
    },
  },
];

/** Takes every place of the map of learned addresses, with addresses of 240.0.0.0/8 that no pod uses. */
function fillMap(tandem: TandemNode): AsyncDisposable {
  using datapath = Datapath.open(tandem.pinRoot);
  const map = datapath.map('fqdn');
  const keys = new Uint8Array(batch * tdFqdnKey.size);
  const values = new Uint8Array(batch * tdFqdn.size);
  const added: Uint8Array[] = [];
  for (let first = 0; first < TD_FQDN_MAX; first += batch) {
    for (let i = 0; i < batch; i++) fillerKey(keys.subarray(i * tdFqdnKey.size), first + i);
    try {
      map.updateBatch(keys, values, batch);
    } catch {
      break; // full
    }
  }
  for (const [key] of map.entries()) if (isFillerKey(key)) added.push(key.slice());
  return {
    [Symbol.asyncDispose]: async () => {
      using again = Datapath.open(tandem.pinRoot);
      for (const key of added) again.map('fqdn').delete(key);
    },
  };
}

function fillerKey(key: Uint8Array, number: number): void {
  key.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, fillerFirstByte], 0);
  key.set([(number >> 16) & 255, (number >> 8) & 255, number & 255], 13);
}

const isFillerKey = (key: Uint8Array): boolean => key[10] === 0xff && key[12] === fillerFirstByte;

const mapFull: Fault = {
  name: 'map full',
  what: 'no place left for learned addresses: new names are answered and cannot be reached',
  victims: ['map'],
  mayNotLearn: true,
  prepare: async ({ tandem }) => fillMap(tandem),
  inject: async () => undefined,
};

export const resources: readonly Fault[] = [
  clockJump,
  policyChange,
  policyWhileAway,
  ...diskFull,
  mapFull,
];
