// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The chart of a release: charts/tandem with its version, and images that were pushed, by their digests. The images are then
 * these, whatever somebody does to a tag.
 */

import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const usage = `usage: node scripts/release-chart.ts --output DIR --version VERSION --registry HOST --repository PATH
         --agent DIGEST --dns-proxy DIGEST

Writes the chart to DIR/tandem, with appVersion and version VERSION, and images HOST/PATH/agent and HOST/PATH/dns-proxy of these
digests (sha256:...). What is in DIR/tandem is replaced.
`;

const source = fileURLToPath(new URL('../charts/tandem', import.meta.url));
const { parseDocument } = await import(
  new URL('../e2e/kit/yaml-document.ts', import.meta.url).href
);

interface Release {
  readonly output: string;
  readonly version: string;
  readonly registry: string;
  readonly repository: string;
  readonly agent: string;
  readonly 'dns-proxy': string;
}

function main(): void {
  const names = ['output', 'version', 'registry', 'repository', 'agent', 'dns-proxy'] as const;
  const { values } = parseArgs({
    options: {
      ...Object.fromEntries(names.map((name) => [name, { type: 'string' }] as const)),
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values['help'] === true) {
    process.stdout.write(usage);
    return;
  }
  const missing = names.filter((name) => typeof values[name] !== 'string');
  if (missing.length > 0)
    throw new Error(`missing: ${missing.map((each) => `--${each}`).join(' ')}`);
  const release = values as unknown as Release;
  for (const name of ['agent', 'dns-proxy'] as const) {
    if (/^sha256:[0-9a-f]{64}$/.test(release[name])) continue;
    throw new Error(`--${name} ${release[name]} is no digest: sha256: and 64 digits`);
  }
  if (!/^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/.test(release.version)) {
    throw new Error(`--version ${release.version} is no version such as 1.2.3`);
  }
  writeChart(release);
}

function writeChart({ output, version, registry, repository, ...digests }: Release): void {
  const target = join(output, 'tandem');
  rmSync(target, { recursive: true, force: true });
  mkdirSync(output, { recursive: true });
  cpSync(source, target, { recursive: true });
  const images = Object.entries(digests).map(([name, digest]) => ({
    name,
    image: `${registry}/${repository}/${name}:${version}@${digest}`,
  }));
  edit(join(target, 'Chart.yaml'), {
    version,
    appVersion: version,
    'annotations.artifacthub.io/images': images
      .map(({ name, image }) => `- name: ${name}\n  image: ${image}\n`)
      .join(''),
    'annotations.artifacthub.io/prerelease': String(version.includes('-')),
  });
  edit(join(target, 'values.yaml'), {
    'image.registry': registry,
    'image.repository': repository,
    'agent.image.digest': digests.agent,
    'dnsProxy.image.digest': digests['dns-proxy'],
  });
}

/** Comments stay. The keys of annotations have dots of their own. */
function edit(file: string, changes: Readonly<Record<string, string>>): void {
  const document = parseDocument(readFileSync(file, 'utf8'));
  for (const [path, value] of Object.entries(changes)) {
    const annotation = /^annotations\.(.+)$/.exec(path)?.[1];
    document.setIn(annotation === undefined ? path.split('.') : ['annotations', annotation], value);
  }
  writeFileSync(file, document.toString({ lineWidth: 0 }));
}

try {
  main();
} catch (error) {
  process.stderr.write(
    `release-chart: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 2;
}
