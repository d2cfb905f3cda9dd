// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A kubeconfig, for processes outside of pods. Reading one, with what it says of certificates, tokens and programs
 * that give tokens, is left to @kubernetes/client-node, which is loaded only here: it takes 50 MiB.
 */

import { readFileSync } from 'node:fs';
import type { RequestOptions } from 'node:https';
import { dirname, resolve } from 'node:path';
import type { Cluster, KubeConfig } from '@kubernetes/client-node';
import { isFields } from '@tandem/core/k8s/shape';
import { err, ok, type Result } from '@tandem/core/result';
import { parse } from 'yaml';
import type { KubeEndpoint } from './endpoint.ts';
import { tokenRefreshMs } from './limits.ts';

interface Library {
  readonly KubeConfig: typeof KubeConfig;
}

export interface KubeconfigOptions {
  readonly refreshMs?: number;
  /** For tests: what loads the library. */
  readonly load?: () => Promise<Library>;
}

const noLibrary =
  'kubeconfig files cannot be read here, because @kubernetes/client-node is not installed: the image of the agent has none of it, so leave kubeconfig empty in a pod, and the service account is taken';

/** Reads the current context. */
export async function readKubeconfig(
  path: string,
  {
    refreshMs = tokenRefreshMs,
    load = () => import('@kubernetes/client-node'),
  }: KubeconfigOptions = {},
): Promise<Result<KubeEndpoint, string>> {
  const library = await load().catch(() => null);
  if (library === null) return err(`${path}: ${noLibrary}`);
  let options: RequestOptions = {};
  /** Time of the reading by the monotonic clock: a token must not outlive its file if the clock is set back. */
  let readMs = 0;
  /** Read each time: the file, and the files that it names, are replaced while we run. */
  const read = async (): Promise<Cluster | null> => {
    readMs = performance.now();
    const config = new library.KubeConfig();
    config.loadFromFile(path);
    const next: RequestOptions = {};
    await config.applyToHTTPSOptions(next);
    const token = readTokenFile(path, config.getCurrentUser()?.name);
    options = token === null ? next : { ...next, headers: { Authorization: `Bearer ${token}` } };
    return config.getCurrentCluster();
  };
  /** Reads the value of a file or program again in the background; the next connection or request has it. */
  const refresh = (): void => {
    if (performance.now() - readMs > refreshMs) void read().catch(() => undefined);
  };
  try {
    const cluster = await read();
    if (cluster === null) return err(`${path} has no current context with a cluster`);
    if (cluster.skipTLSVerify === true) {
      return err(`${path}: insecure-skip-tls-verify is not supported: give certificate-authority`);
    }
    return ok({
      url: cluster.server,
      ca: () => {
        refresh();
        return bufferOf(options.ca);
      },
      ...(options.cert === undefined
        ? {}
        : {
            certificate: () => ({
              cert: bufferOf(options.cert) ?? Buffer.alloc(0),
              key: bufferOf(options.key) ?? Buffer.alloc(0),
            }),
          }),
      authorization: () => {
        refresh();
        return authorizationOf(options);
      },
    });
  } catch (error) {
    // A parser shows the lines around a fault, which may be those of a token.
    const [reason = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
    return err(`${path}: ${reason}`);
  }
}

/** client-node passes `tokenFile` over. It goes before `token`, as with kubectl; null: there is none. */
function readTokenFile(path: string, userName: string | undefined): string | null {
  const raw: unknown = parse(readFileSync(path, 'utf8'));
  const users: unknown = isFields(raw) ? raw['users'] : undefined;
  for (const each of Array.isArray(users) ? users : []) {
    if (!isFields(each) || each['name'] !== userName || !isFields(each['user'])) continue;
    const { tokenFile } = each['user'];
    if (typeof tokenFile !== 'string') continue;
    return readFileSync(resolve(dirname(path), tokenFile), 'utf8').trim();
  }
  return null;
}

function authorizationOf({ headers, auth }: RequestOptions): string | null {
  const fields = isFields(headers) ? headers : {};
  const given = fields['Authorization'];
  if (typeof given === 'string') return given;
  return typeof auth === 'string' ? `Basic ${Buffer.from(auth).toString('base64')}` : null;
}

function bufferOf(value: unknown): Buffer | null {
  if (typeof value === 'string') return Buffer.from(value);
  return Buffer.isBuffer(value) ? value : null;
}
