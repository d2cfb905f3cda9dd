// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, mock, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { removePins } from '@tandem/datapath/datapath';
import { LoadedDatapath } from '@tandem/datapath/load';
import { Rtnetlink } from '@tandem/netlink/rtnetlink';
import { loadConfig } from '@tandem/runtime/config';
import { silentLogger } from '@tandem/runtime/log';
import { insideNamespace } from '@tandem/testing/inside';
import { ownPrefix } from '@tandem/testing/namespace';
import { agentConfigSpec } from './config.ts';
import { ArpGuard } from './node/arp-guard.ts';
import { NodeDatapath } from './node-datapath.ts';

const bpf = fileURLToPath(new URL('../../../bpf', import.meta.url));
const tables = (): string => execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' });

insideNamespace(import.meta, () => {
  /** As of a former start: its `from_pod` is in force no more, or sets another bit. */
  const guardAsBefore = async (): Promise<void> => {
    const guard = new ArpGuard(0x40);
    guard.set({ podBridges: ['cni0'], trustedPorts: [{ name: 'lo', ifindex: 1 }] });
    await guard.ensure();
    assert.match(tables(), /table arp tandem/);
  };
  const datapath = ({ mark = '0x1000', pins = '/absent/tandem' } = {}): NodeDatapath => {
    const result = loadConfig(agentConfigSpec, {
      argv: [
        ...['--source', 'kubernetes', '--node-name', 'one', '--mark', mark],
        ...['--bpffs-dir', pins, '--bpf-object', '/absent/tandem.bpf.o'],
      ],
      env: {},
      readFile: () => {
        throw new Error('no file is named');
      },
    });
    assert.ok(result.kind === 'config', JSON.stringify(result));
    return new NodeDatapath(result.config, silentLogger());
  };

  test('a start with another mark that fails leaves no table that tests the former bit', async () => {
    await guardAsBefore();
    const node = datapath();
    await assert.rejects(node.load(), /absent/);
    assert.doesNotMatch(tables(), /tandem/);
    await node.stop();
    node.close();
  });

  test('a start loads nothing before it has read the interfaces of the node', async () => {
    mock.method(Rtnetlink.prototype, 'links', () => Promise.reject(new Error('no answer')), {
      times: 2,
    });
    const node = datapath();
    await assert.rejects(node.load(), /absent/);
    assert.ok(node.view.state.links.size > 0);
    await node.stop();
    node.close();
  });

  test('a start that is stopped while it waits for the interfaces loads nothing', async () => {
    mock.method(Rtnetlink.prototype, 'links', () => Promise.reject(new Error('no answer')), {
      times: 1,
    });
    const node = datapath();
    const loading = assert.rejects(node.load(), /the agent stops/);
    await node.stop();
    await loading;
    node.close();
  });

  test('removal takes the tables of ARP away, also if the network was never read', async () => {
    await guardAsBefore();
    await datapath().remove();
    assert.doesNotMatch(tables(), /tandem/);
  });

  /** nft fails where it is to list a table of ARP: the first time, or each time. */
  const withoutNft = async (times: 'once' | 'always', work: () => Promise<void>): Promise<void> => {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-nft-'));
    const path = process.env['PATH'] ?? '';
    const found = execFileSync('sh', ['-c', 'command -v nft'], { encoding: 'utf8' }).trim();
    const once = join(directory, 'failed');
    const isNow = `case "$*" in *"table arp"*) ${times === 'once' ? `[ ! -e ${once} ]` : true};; *) false;; esac`;
    writeFileSync(
      join(directory, 'nft'),
      `#!/bin/sh\nif ${isNow}; then touch ${once}; exit 1; fi\nexec ${found} "$@"\n`,
      { mode: 0o755 },
    );
    process.env['PATH'] = `${directory}:${path}`;
    try {
      await work();
      assert.ok(existsSync(once));
    } finally {
      process.env['PATH'] = path;
      rmSync(directory, { recursive: true });
    }
  };

  test('removal deletes the tables of ARP although nft fails once', async () => {
    await guardAsBefore();
    await withoutNft('once', () => datapath().remove());
    assert.doesNotMatch(tables(), /tandem/);
  });

  describe('a bit that is in force and that another program uses now', () => {
    const pins = `/sys/fs/bpf/${ownPrefix}mark`;
    const tested = (): string =>
      execFileSync('nft', ['list', 'table', 'arp', 'tandem'], { encoding: 'utf8' });
    /** A start that ends at its programs. Gives the bit that it had come to. */
    const markOfStart = async (mark: string): Promise<readonly [number, readonly string[]]> => {
      const node = datapath({ mark, pins });
      await assert.rejects(node.load(), /absent/);
      const result = [node.rules.mark, node.degradations.map(({ code }) => code)] as const;
      await node.stop();
      node.close();
      return result;
    };
    before(async () => {
      execFileSync('make', ['-s', 'all'], { cwd: bpf });
      removePins(pins);
      await guardAsBefore();
      LoadedDatapath.load({
        objectPath: `${bpf}/build/tandem.bpf.o`,
        pinRoot: pins,
        sharedGid: 65_532,
        cgroupPath: null,
        devices: { trusted: [], podBridges: [], tunnelPorts: [] },
        config: {
          mark: 0x40,
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
        },
      })[Symbol.dispose]();
      execFileSync('ip', ['rule', 'add', 'fwmark', '0x40/0x40', 'lookup', '99']);
    });
    after(() => removePins(pins));

    test('is kept, and said, where nft cannot change the tables of ARP', async () => {
      await withoutNft('always', async () => {
        assert.deepEqual(await markOfStart('auto'), [0x40, ['mark-taken']]);
      });
      assert.match(tested(), /mark & 0x0*40 == /);
    });

    test('is left where nft fails once', async () => {
      await withoutNft('once', async () => {
        assert.deepEqual(await markOfStart('auto'), [0x1000, []]);
      });
      assert.match(tested(), /mark & 0x0*1040 == /);
      assert.deepEqual(await markOfStart('auto'), [0x1000, []], 'again');
      assert.match(tested(), /mark & 0x0*1040 == /);
    });

    test('is left where the option names another', async () => {
      await withoutNft('always', async () => {
        assert.deepEqual(await markOfStart('0x20'), [0x20, []]);
      });
    });
  });
});
