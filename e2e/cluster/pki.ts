// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The cluster's certificates and kubeconfigs: what kubeadm would make, by openssl, with elliptic curves for speed. */

import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@tandem/testing/process';
import {
  apiServerUrl,
  apiServiceAddress,
  type ClusterConfig,
  controlPlaneAddress,
  type Layout,
  nodeAddress,
  nodeIndexes,
  nodeName,
} from './layout.ts';

const validDays = '365';
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
const secretMode = 0o600;

interface Certificate {
  readonly file: string;
  readonly subject: string;
  readonly subjectAltName?: string;
  readonly ca?: string;
  /** With a kubeconfig of the same name, `FILE.conf`. */
  readonly isClient?: true;
}

export async function writePki(layout: Layout, config: ClusterConfig): Promise<void> {
  mkdirSync(layout.pki, { recursive: true, mode: 0o700 });
  await Promise.all(['ca', 'front-proxy-ca'].map((name) => writeCa(layout.pki, name)));
  writeServiceAccountKey(layout.pki);
  const apiNames = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
  const certificates: Certificate[] = [
    {
      file: 'apiserver',
      subject: '/CN=kube-apiserver',
      subjectAltName: [
        ...['127.0.0.1', controlPlaneAddress, apiServiceAddress].map((address) => `IP:${address}`),
        ...[...apiNames, 'kubernetes.default.svc.cluster.local'].map((name) => `DNS:${name}`),
      ].join(','),
    },
    { file: 'apiserver-kubelet-client', subject: '/O=system:masters/CN=apiserver-kubelet-client' },
    { file: 'front-proxy-client', subject: '/CN=front-proxy-client', ca: 'front-proxy-ca' },
    { file: 'admin', subject: '/O=system:masters/CN=admin', isClient: true },
    {
      file: 'controller-manager',
      subject: '/CN=system:kube-controller-manager',
      isClient: true,
    },
    { file: 'scheduler', subject: '/CN=system:kube-scheduler', isClient: true },
    { file: 'kube-proxy', subject: '/CN=system:kube-proxy', isClient: true },
    ...nodeIndexes(config).map(
      (index): Certificate => ({
        file: nodeName(index),
        subject: `/O=system:nodes/CN=system:node:${nodeName(index)}`,
        subjectAltName: `IP:${nodeAddress(index)},DNS:${nodeName(index)}`,
        isClient: true,
      }),
    ),
  ];
  await Promise.all(certificates.map((certificate) => writeCertificate(layout.pki, certificate)));
  for (const { file, isClient } of certificates) {
    if (isClient === true) writeKubeconfig(layout.pki, file);
  }
}

async function writeCa(pki: string, name: string): Promise<void> {
  const extensions = [
    'basicConstraints=critical,CA:TRUE',
    'keyUsage=critical,keyCertSign,cRLSign,digitalSignature',
  ].flatMap((extension) => ['-addext', extension]);
  const files = ['-keyout', join(pki, `${name}.key`), '-out', join(pki, `${name}.crt`)];
  const subject = ['-subj', `/CN=${name}`, '-days', validDays];
  await run('openssl', ['req', '-x509', ...newKey, ...subject, ...files, ...extensions]);
}

async function writeCertificate(pki: string, certificate: Certificate): Promise<void> {
  const { file, subject, subjectAltName, ca = 'ca' } = certificate;
  const path = (suffix: string): string => join(pki, `${file}.${suffix}`);
  const request = ['-keyout', path('key'), '-out', path('csr')];
  await run('openssl', ['req', ...newKey, '-subj', subject, ...request]);
  const extensions = [
    'extendedKeyUsage=clientAuth,serverAuth',
    'keyUsage=critical,digitalSignature',
    ...(subjectAltName === undefined ? [] : [`subjectAltName=${subjectAltName}`]),
  ];
  writeFileSync(path('ext'), `${extensions.join('\n')}\n`);
  const signer = ['-CA', join(pki, `${ca}.crt`), '-CAkey', join(pki, `${ca}.key`)];
  const serial = ['-set_serial', `0x${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`];
  const files = ['-in', path('csr'), '-out', path('crt'), '-extfile', path('ext')];
  await run('openssl', ['x509', '-req', ...signer, ...serial, '-days', validDays, ...files]);
  rmSync(path('csr'));
  rmSync(path('ext'));
}

function writeServiceAccountKey(pki: string): void {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const pem = privateKey.export({ type: 'sec1', format: 'pem' });
  writeFileSync(join(pki, 'sa.key'), pem, { mode: secretMode });
  writeFileSync(join(pki, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
}

function writeKubeconfig(pki: string, file: string): void {
  const base64 = (name: string): string => readFileSync(join(pki, name)).toString('base64');
  const user = {
    'client-certificate-data': base64(`${file}.crt`),
    'client-key-data': base64(`${file}.key`),
  };
  const cluster = { server: apiServerUrl, 'certificate-authority-data': base64('ca.crt') };
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'tandem', cluster }],
    users: [{ name: file, user }],
    contexts: [{ name: 'tandem', context: { cluster: 'tandem', user: file } }],
    'current-context': 'tandem',
  };
  const path = join(pki, `${file}.conf`);
  writeFileSync(path, `${JSON.stringify(kubeconfig, null, 2)}\n`, { mode: secretMode });
}
