// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HeldRing } from '@tandem/bpf-loader-node/held-ring';
import { BpfLink } from '@tandem/bpf-loader-node/link';
import { BpfMap, mapFlag, mapType } from '@tandem/bpf-loader-node/map';
import { ifindex } from '@tandem/bpf-loader-node/netns';
import { insideNamespace } from '@tandem/testing/inside';
import { ownPrefix } from '@tandem/testing/namespace';
import { waitFor } from '@tandem/testing/wait';
import {
  TD_ABI_VERSION,
  TD_JOURNAL_CELL_BYTES,
  tdClass,
  tdClassKey,
  tdCounter,
  tdGroup,
} from './abi.gen.ts';
import type { DatapathConfig } from './config.ts';
import { Datapath, removePins } from './datapath.ts';
import { word } from './device-maps.ts';
import { type Entry, encodeClass } from './encode.ts';
import { LoadedDatapath } from './load.ts';
import { MirroredMap } from './mirrored-map.ts';
import { judgeHooks, laterMaps, laterPrograms, netfilterSlots, pinPaths } from './paths.ts';
import { isLoaded } from './schema.ts';

const pinRoot = `/sys/fs/bpf/${ownPrefix}0`;
const bpf = fileURLToPath(new URL('../../../bpf', import.meta.url));
const ip = (...args: string[]): void => {
  execFileSync('ip', args);
};

function load(change: Partial<DatapathConfig> = {}): LoadedDatapath {
  return LoadedDatapath.load({
    objectPath: `${bpf}/build/tandem.bpf.o`,
    pinRoot,
    sharedGid: 65_532,
    cgroupPath: null,
    devices: { trusted: [], podBridges: [], tunnelPorts: [] },
    config: {
      mark: 0x1000,
      port: 10_053,
      ownerUid: 65_532,
      netnsCookie: 0n,
      staleNs: 100_000_000,
      fqdnIdleSeconds: 60,
      fqdnLiveSeconds: 1000,
      fqdnLiveIdleSeconds: 100,
      connectsPerSecond: 1000,
      datagramsPerSecond: 10_000,
      nat64Prefixes: [],
      quotaNamespace: 100,
      quotaSelector: 100,
      ...change,
    },
  });
}

async function attach(datapath: Datapath, index: number): Promise<void> {
  const problems = await datapath.attachEndpoints([{ ifindex: index, mac: null }]);
  assert.deepEqual([...problems], []);
}

function linkInfo(name: string): ReturnType<BpfLink['info']> {
  using link = BpfLink.openPinned(pinPaths(pinRoot).link(name));
  return link.info();
}

const judgeNames = judgeHooks.flatMap(({ name }) =>
  ['ipv4', 'ipv6'].map((family) => `${name}_${family}`),
);

insideNamespace(import.meta, () => {
  before(() => {
    execFileSync('make', ['-s', 'all'], { cwd: bpf });
    removePins(pinRoot);
  });
  after(() => removePins(pinRoot));

  test('before judge is attached pods may be introduced; one that gets no programs is a stranger again', async () => {
    using datapath = load();
    const isKnown = (index: number): boolean =>
      datapath.map('pod_devices').lookup(word(index)) !== null;
    ip('link', 'add', 'i0', 'type', 'veth', 'peer', 'name', 'i1');
    ip('link', 'add', 'i2', 'type', 'veth', 'peer', 'name', 'i3');
    const [known, failing, absent] = [ifindex('i0'), ifindex('i2'), 99_999];
    const veths = [known, failing, absent].map((index) => ({ ifindex: index, mac: null }));
    assert.equal(datapath.introducePods([known, failing, absent]), true);
    assert.deepEqual([known, failing].map(isKnown), [true, true]);
    // A pin that is no link.
    using other = BpfMap.openPinned(pinPaths(pinRoot).map('events'));
    const path = pinPaths(pinRoot).link(`from_pod_${failing}`);
    mkdirSync(pinPaths(pinRoot).links, { recursive: true });
    other.pin(path);
    const problems = await datapath.attachEndpoints(veths);
    assert.deepEqual([...problems.keys()].sort(), [failing, absent].sort());
    assert.deepEqual([known, failing].map(isKnown), [true, false]);
    unlinkSync(path);
    assert.equal((await datapath.attachEndpoints(veths.slice(0, 2))).size, 0);
    assert.ok(isKnown(failing));
    datapath.detachEndpoints(() => false);
    datapath.ensureJudging();
    assert.equal(datapath.introducePods([known]), false);
    assert.equal(isKnown(known), false, 'its sources are not verified');
    ip('link', 'add', 'i4', 'type', 'veth', 'peer', 'name', 'i5');
    const judged = { ifindex: ifindex('i4'), mac: null };
    await attach(datapath, judged.ifindex);
    const pin = pinPaths(pinRoot).link(`from_pod_${judged.ifindex}`);
    unlinkSync(pin);
    other.pin(pin);
    assert.equal((await datapath.attachEndpoints([judged])).size, 1);
    assert.ok(isKnown(judged.ifindex), 'judge believes it, whatever its pin is');
    removePins(pinRoot);
  });

  describe('load', () => {
    test('over what is pinned: maps and links stay, programs are new', async () => {
      ip('link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1');
      const key = new Uint8Array(16).fill(7);
      const remembered = new Map<string, number>();
      {
        using first = load();
        first
          .map('endpoints')
          .update(key, new Uint8Array(first.map('endpoints').valueSize).fill(1));
        assert.ok(!first.isJudging(), 'before there is a policy');
        first.ensureJudging();
        await attach(first, ifindex('v0'));
        assert.ok(first.isJudging());
        for (const name of ['endpoints', 'fqdn', 'group', 'judge_slot'] as const) {
          remembered.set(name, first.map(name).id);
        }
        for (const name of ['from_pod', 'judge', 'learn'] as const) {
          remembered.set(name, first.program(name).id);
        }
      }
      const linkIds = [...judgeNames, `from_pod_${ifindex('v0')}`].map((name) => linkInfo(name).id);

      using second = load({ port: 10_054 });
      assert.equal(second.map('endpoints').lookup(key)?.[0], 1, 'what was in the map is in it');
      for (const name of ['endpoints', 'fqdn', 'group', 'judge_slot'] as const) {
        assert.equal(second.map(name).id, remembered.get(name), name);
      }
      for (const name of ['from_pod', 'judge', 'learn'] as const) {
        assert.notEqual(second.program(name).id, remembered.get(name), name);
      }
      for (const { slot, program } of netfilterSlots) {
        const value = second.map(slot).lookup(new Uint8Array(4));
        assert.ok(value !== null);
        const called = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
        assert.equal(called, second.program(program).id, `the root calls the new ${program}`);
      }
      await attach(second, ifindex('v0'));
      const info = linkInfo(`from_pod_${ifindex('v0')}`);
      assert.equal(info.programId, second.program('from_pod').id, 'swapped in place');
      assert.deepEqual(
        [...judgeNames, `from_pod_${ifindex('v0')}`].map((name) => linkInfo(name).id),
        linkIds,
        'no link was ever away',
      );
    });

    test('over the journal of before: a new one beside it, which goes with the start after', () => {
      const paths = pinPaths(pinRoot);
      const former = join(paths.shared, 'journal');
      {
        using present = load();
        using old = BpfMap.create({
          type: mapType.array,
          name: 'journal',
          keySize: 4,
          valueSize: 1024,
          maxEntries: 4,
          flags: mapFlag.mmapable,
        });
        old.pin(former);
        unlinkSync(paths.map('journal2'));
        assert.equal(isLoaded(pinRoot), false, 'a member waits for the agent of this version');
        assert.equal(present.map('group').id > 0, true);
      }
      {
        using upgraded = load();
        assert.equal(upgraded.map('journal2').valueSize, TD_JOURNAL_CELL_BYTES);
        assert.ok(isLoaded(pinRoot));
        assert.ok(existsSync(former), 'a member of before may start again');
      }
      using later = load();
      assert.equal(existsSync(former), false);
      assert.ok(later.isJudging());
    });

    for (const former of [TD_ABI_VERSION, TD_ABI_VERSION - 1]) {
      test(`over fewer counters, of ABI version ${former}: all begin again, and the former map stays for a rollback`, () => {
        const own = pinPaths(pinRoot);
        const paths = pinPaths(pinRoot, former);
        {
          using present = load();
          new Uint32Array(present.map('group').mmap())[tdGroup.agent_abi / 4] = former;
        }
        if (former !== TD_ABI_VERSION)
          renameSync(dirname(own.map('counters')), dirname(paths.map('counters')));
        unlinkSync(paths.map('counters'));
        const count = Object.keys(tdCounter).length;
        using fewer = BpfMap.create({
          ...{ type: mapType.percpuArray, name: 'counters', maxEntries: count - 1 },
          ...{ keySize: 4, valueSize: 8 },
        });
        fewer.pin(paths.map('counters'));
        using upgraded = load();
        assert.equal(upgraded.map('counters').maxEntries, count);
        using pinned = BpfMap.openPinned(own.map('counters'), { isReadOnly: true });
        assert.equal(pinned.id, upgraded.map('counters').id);
        if (former === TD_ABI_VERSION) return;
        using kept = BpfMap.openPinned(paths.map('counters'), { isReadOnly: true });
        assert.equal(kept.id, fewer.id);
        rmSync(dirname(paths.map('counters')), { recursive: true });
      });
    }

    test('over fewer classes than a new map has: the map stays as large as it is', () => {
      const path = pinPaths(pinRoot).map('classes');
      unlinkSync(path);
      using former = BpfMap.create({
        ...{ type: mapType.lpmTrie, name: 'classes', maxEntries: 131_072 },
        ...{ keySize: tdClassKey.size, valueSize: tdClass.size, flags: mapFlag.noPrealloc },
      });
      former.pin(path);
      const { key, value } = encodeClass(new Uint8Array(16).fill(3), 128, 5, 0);
      former.update(key, value);
      using present = load();
      assert.equal(present.map('classes').id, former.id);
      assert.equal(present.map('classes').maxEntries, 131_072);
      assert.deepEqual(present.map('classes').lookup(key), value);
    });

    test('a member writes the shared maps and only reads the others', () => {
      using member = Datapath.open(pinRoot, { isMember: true });
      const endpoints = member.map('endpoints');
      assert.ok(endpoints.lookup(new Uint8Array(16).fill(7)) !== null);
      assert.throws(() => endpoints.delete(new Uint8Array(16).fill(7)), /EPERM|EBADF/);
      const quotas = member.map('quotas');
      quotas.update(new Uint8Array(4).fill(1), new Uint8Array(quotas.valueSize));
      assert.ok(quotas.delete(new Uint8Array(4).fill(1)));
      using ring = new HeldRing(member.map('events'), () => undefined);
      assert.equal(ring.read(), 0);
      const { mode } = statSync(pinPaths(pinRoot).map('events'));
      assert.equal(mode & 0o777, 0o660, 'its reader moves the position');
    });

    test('what an agent before `fqdn_live` pinned is whole; the next load adds the map', () => {
      for (const name of laterMaps) execFileSync('rm', [pinPaths(pinRoot).map(name)]);
      for (const name of laterPrograms) execFileSync('rm', [pinPaths(pinRoot).program(name)]);
      for (const name of judgeNames.filter((each) => each.startsWith('guard_entry'))) {
        execFileSync('rm', [pinPaths(pinRoot).link(name)]);
      }
      assert.ok(isLoaded(pinRoot));
      using member = Datapath.open(pinRoot, { isMember: true });
      assert.equal(member.laterMap('fqdn_live'), null);
      using agent = load();
      assert.ok(agent.isJudging());
      for (const name of laterMaps) assert.equal(member.laterMap(name)?.id, agent.map(name).id);
    });

    test('a judge link that somebody removed is attached again', async () => {
      using datapath = Datapath.open(pinRoot);
      assert.ok(datapath.isJudging());
      execFileSync('rm', [pinPaths(pinRoot).link('judge_localIn_ipv6')]);
      assert.ok(!datapath.isJudging());
      // The kernel frees the place of a link a moment after its pin went; the agent tries again every few seconds.
      const isAttached = (): boolean => {
        datapath.ensureJudging();
        return datapath.isJudging();
      };
      await waitFor(isAttached, { what: 'the link' });
    });

    test('an agent puts back single pins that somebody removed, of the same objects', () => {
      using agent = load();
      const paths = pinPaths(pinRoot);
      assert.deepEqual(agent.repair(), []);
      const maps = ['group', 'endpoints', 'fqdn', 'judge_slot'] as const;
      const programs = ['from_pod', 'learn', 'judge'] as const;
      const ids = [
        ...maps.map((name) => agent.map(name).id),
        ...programs.map((name) => agent.program(name).id),
      ];
      for (const name of maps) unlinkSync(paths.map(name));
      for (const name of programs) unlinkSync(paths.program(name));
      assert.deepEqual([...agent.repair()].sort(), [...maps, ...programs].sort());
      using member = Datapath.open(pinRoot, { isMember: true });
      const found = [
        ...maps.map((name) => member.map(name).id),
        ...programs.map((name) => member.program(name).id),
      ];
      assert.deepEqual(found, ids);
      assert.equal(statSync(paths.program('learn')).gid, 65_532, 'the proxy may open it');
      assert.equal(agent.problems.size, 0);
      rmSync(paths.version, { recursive: true });
      assert.ok(agent.repair().includes('endpoints'));
      assert.equal(agent.problems.size, 0);
    });

    test('a pin that cannot be put back is a problem until it can', () => {
      using agent = load();
      const paths = pinPaths(pinRoot);
      rmSync(paths.version, { recursive: true });
      // a link that leads nowhere, in the place of the directory
      symlinkSync(join(pinRoot, 'nowhere'), paths.version);
      assert.deepEqual(agent.repair(), []);
      assert.ok(agent.problems.has('pins'));
      unlinkSync(paths.version);
      assert.ok(agent.repair().includes('endpoints'));
      assert.equal(agent.problems.size, 0);
    });

    test('an agent pins its judge links again when somebody removed them all', () => {
      using agent = load();
      const paths = pinPaths(pinRoot);
      const idOf = (): number => {
        using link = BpfLink.openPinned(paths.link('judge_localIn_ipv6'));
        return link.info().id;
      };
      const id = idOf();
      for (const name of judgeNames) unlinkSync(paths.link(name));
      assert.ok(agent.isJudging(), 'the agent holds them');
      agent.ensureJudging();
      assert.equal(idOf(), id, 'never detached');
    });
  });

  describe('pods', () => {
    test('an interface that goes and one that takes its index', async () => {
      using datapath = Datapath.open(pinRoot);
      const index = 4711;
      ip('link', 'add', 'w0', 'index', `${index}`, 'type', 'veth', 'peer', 'name', 'w1');
      await attach(datapath, index);
      await attach(datapath, index);
      const first = linkInfo(`from_pod_${index}`);
      ip('link', 'del', 'w0');
      const gone = linkInfo(`from_pod_${index}`);
      assert.ok(gone.kind === 'tcx' && gone.ifindex === 0, 'the kernel let go of it');
      ip('link', 'add', 'x0', 'index', `${index}`, 'type', 'veth', 'peer', 'name', 'x1');
      await attach(datapath, index);
      for (const name of ['from_pod', 'to_pod'] as const) {
        const info = linkInfo(`${name}_${index}`);
        assert.ok(info.kind === 'tcx' && info.ifindex === index);
        assert.equal(info.programId, datapath.program(name).id);
        assert.notEqual(info.id, first.id);
      }
      const absent = 99_999;
      const problems = await datapath.attachEndpoints([
        { ifindex: absent, mac: null },
        { ifindex: index, mac: null },
      ]);
      assert.deepEqual([...problems.keys()], [absent], 'the other one is attached');
      assert.match(problems.get(absent) ?? '', /ENODEV/);
    });

    test('programs of interfaces that are no longer wanted are detached', () => {
      using datapath = Datapath.open(pinRoot);
      const kept = ifindex('v0');
      assert.equal(
        datapath.detachEndpoints((index) => index === kept),
        2,
      );
      const links = readdirSync(pinPaths(pinRoot).links);
      assert.deepEqual(links.filter((name) => name.includes('_pod_')).sort(), [
        `from_pod_${kept}`,
        `to_pod_${kept}`,
      ]);
      assert.equal(
        datapath.detachEndpoints((index) => index === kept),
        0,
      );
    });
  });

  test('a map is brought to its content with the fewest writes', () => {
    using datapath = Datapath.open(pinRoot);
    for (const name of ['endpoints', 'classes', 'policy', 'dns_servers'] as const) {
      const map = datapath.map(name);
      for (const [key] of [...map.entries()]) map.delete(key);
      const mirror = new MirroredMap(map);
      const entry = (n: number, value: number): Entry => {
        const key = new Uint8Array(map.keySize).fill(n);
        // Tries: every bit of the key counts, so that keys differ.
        if (name === 'classes' || name === 'policy') {
          new DataView(key.buffer).setUint32(0, (map.keySize - 4) * 8, true);
        }
        return { key, value: new Uint8Array(map.valueSize).fill(value) };
      };
      const values = (): number[] => [...map.entries()].map(([, value]) => value[0] ?? 0).sort();
      const count = (n: number): Entry[] => Array.from({ length: n }, (_, i) => entry(i + 1, i));
      assert.deepEqual(mirror.add(count(5)), { written: 5, removed: 0 }, name);
      assert.deepEqual(mirror.add(count(5)), { written: 0, removed: 0 }, 'equal is left alone');
      assert.deepEqual(mirror.add([entry(1, 9), entry(6, 5)]), { written: 2, removed: 0 });
      assert.deepEqual(values(), [1, 2, 3, 4, 5, 9]);
      assert.deepEqual(mirror.prune([entry(1, 0), entry(2, 0), entry(99, 0)]), {
        written: 0,
        removed: 4,
      });
      assert.deepEqual(values(), [1, 9], 'pruning changes no value');
      assert.deepEqual(mirror.add([entry(7, 1), entry(7, 2)]).written, 2);
      assert.equal(map.lookup(entry(7, 0).key)?.[0], 2, 'the later one wins');
      assert.equal(mirror.prune([]).removed, 3);
    }
  });

  test('removePins leaves nothing', () => {
    removePins(pinRoot);
    assert.ok(!existsSync(pinRoot));
    removePins(pinRoot);
  });
});
