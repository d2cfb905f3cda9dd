// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The catalogue of codes and the product are the same: a code that the product raises is in it (for most kinds the compiler holds
 * that), each code of it is raised somewhere, and texts that name a code name one of it.
 */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { BpfErrorCode } from '@tandem/bpf-loader-node/errors';
import { type CodeKind, catalogue, codeNames, entriesOf } from '@tandem/cli/explain/catalogue';
import type { ErrorCode } from '@tandem/core/codes/errors';
import type { SocketErrorCode } from '@tandem/dns-sockets/errors';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Codes of the addons, which import no other package, are in the catalogue: else this does not compile. */
type Unlisted = Exclude<BpfErrorCode | SocketErrorCode, ErrorCode>;
const areListed: [Unlisted] extends [never] ? true : never = true;
assert.ok(areListed);

function filesBelow(directory: string, pattern: RegExp): readonly string[] {
  return readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((file) => pattern.test(file) && !/(^|\/)(node_modules|dist|build|gen)\//.test(file))
    .map((file) => `${directory}/${file}`);
}

const textOf = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The tables of the catalogue, and files that say no more than another name of a code. */
const isTable = (file: string): boolean =>
  /\/codes\/|check-codes\.ts$|drop-reasons\.ts$|abi\.gen\.ts$/.test(file);
const packages = readdirSync(join(root, 'packages')).filter((name) => name !== 'testing');
const product = packages.flatMap((name) =>
  filesBelow(`packages/${name}`, /\.(ts|c|h)$/).filter(
    (file) => !/\.(test|bench)\.ts$|\/(test|bench|scripts|tests)\//.test(file) && !isTable(file),
  ),
);
const source = product.map(textOf).join('\n');
const programs = ['bpf/src', 'bpf/include']
  .flatMap((directory) => filesBelow(directory, /\.(h|bpf\.c)$/))
  .filter((file) => !file.endsWith('/abi.h'))
  .map(textOf)
  .join('\n');

/** Made of a part that is a type of its own. */
const composed: readonly (readonly [RegExp, string])[] = [
  [/^bridge-netfilter-ipv[46]$/, '`bridge-netfilter-${family.name}`'],
  [/^kernel-.+$/, '`kernel-${dashed(name)}`'],
  [/^mark-(firewall|routing[46])$/, '`mark-${where}`'],
];

function isRaised(code: string, kind: CodeKind): boolean {
  if (kind === 'drop-reason') {
    return new RegExp(`\\bTD_COUNT_${code.toUpperCase()}\\b`).test(programs);
  }
  if (kind === 'error' && new RegExp(`"${code}"`).test(source)) return true;
  const template = composed.find(([pattern]) => pattern.test(code))?.[1];
  if (template !== undefined && source.includes(template)) return true;
  return source.includes(`'${code}'`) || new RegExp(`^\\s+${code}: '`, 'm').test(source);
}

describe('the catalogue', () => {
  test('has no code that nothing raises', () => {
    const unraised = catalogue.filter(({ code, kind }) => !isRaised(code, kind));
    assert.deepEqual(
      unraised.map(({ code, kind }) => `${kind} ${code}`),
      [],
    );
  });

  test('has a code in two kinds only where both mean one condition', () => {
    const ofNode: readonly CodeKind[] = ['degradation', 'diagnostic', 'doctor-check'];
    const repeated = codeNames.filter(
      (code) => entriesOf(code).filter(({ kind }) => ofNode.includes(kind)).length > 1,
    );
    assert.deepEqual(repeated, ['endpoint-chain', 'ipvs', 'run-directory']);
  });

  test('has all error codes of TypeScript and C', () => {
    const quoted = new Set(
      [...source.matchAll(/['"](TANDEM_[A-Z_]+)['"]/g)].map(([, code]) => code),
    );
    const errors = new Set(
      catalogue.filter(({ kind }) => kind === 'error').map(({ code }) => code),
    );
    // Environment variables look alike, and are no codes.
    const variables = new Set(['TANDEM_CONFIG', 'TANDEM_FQDN_GRACE_SECONDS']);
    assert.ok(quoted.size > 30, `${quoted.size}`);
    assert.deepEqual(
      [...quoted].filter((code) => !errors.has(code ?? '') && !variables.has(code ?? '')),
      [],
    );
  });
});

describe('texts that name a code name one of the catalogue', () => {
  const pages = filesBelow('docs', /^[a-z-]+\.md$/);

  test('first cells of tables whose head is "code"', () => {
    const unknown: string[] = [];
    let seen = 0;
    for (const page of pages) {
      let isCodes = false;
      for (const line of textOf(page).split('\n')) {
        if (line.startsWith('| code')) isCodes = true;
        else if (!line.startsWith('|')) isCodes = false;
        else if (isCodes) {
          const [, cell = ''] = line.split('|');
          for (const [, code = ''] of cell.matchAll(/`([\w-]+)`/g)) {
            seen += 1;
            if (entriesOf(code).length === 0) unknown.push(`${page}: ${code}`);
          }
        }
      }
    }
    assert.deepEqual(unknown, []);
    assert.ok(seen > 10, `${seen}`);
  });

  test('links to the reference lead to a code', () => {
    const links = [...pages, 'README.md', 'charts/tandem/README.md'].flatMap((page) =>
      [...textOf(page).matchAll(/\[`([\w-]+)`\]\((?:docs\/)?reference\/codes\.md#([\w-]+)\)/g)].map(
        ([, code = '', anchor = '']) => ({ page, code, anchor }),
      ),
    );
    assert.ok(links.length > 20, `${links.length}`);
    const reference = textOf('docs/reference/codes.md');
    const broken = links.filter(
      ({ code, anchor }) => code !== anchor || !reference.includes(`<a id="${anchor}"></a>`),
    );
    assert.deepEqual(broken, []);
  });

  test('the runbook links each code that it names', () => {
    const runbook = textOf('docs/runbook.md');
    const named = codeNames.filter((code) => code.includes('-') && runbook.includes(`\`${code}\``));
    assert.ok(named.length > 15, `${named.length}`);
    const unlinked = named.filter(
      (code) => !runbook.includes(`[\`${code}\`](reference/codes.md#${code})`),
    );
    assert.deepEqual(unlinked, []);
  });

  test('alerts', () => {
    const alerts = textOf('charts/tandem/files/monitoring/alerts.yaml');
    const codes = [...alerts.matchAll(/code[!=]~"([^"]+)"/g)].flatMap(([, list = '']) =>
      list.split('|'),
    );
    assert.ok(codes.length > 10, `${codes.length}`);
    const degradations = new Set(
      catalogue.filter(({ kind }) => kind === 'degradation').map(({ code }) => code),
    );
    assert.deepEqual(
      codes.filter((code) => !degradations.has(code)),
      [],
    );
    assert.match(alerts, /kubectl tandem explain \{\{ \$labels\.code \}\}/);
  });
});
