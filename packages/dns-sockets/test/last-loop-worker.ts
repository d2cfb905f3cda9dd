// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A thread that has nothing but a loop, and closes it in the callback of its first batch. */

import { closeFd, localPort } from '../src/fd.ts';
import * as layout from '../src/layout.ts';
import { echoLoop, openListener } from './echo.ts';

const loop = echoLoop({ onBatch: () => loop.close() });
const fd = openListener();
const handle = loop.add(fd, 'listener');
const { tx, txBytes, header } = loop;
tx[layout.TX_HANDLE] = handle;
tx[layout.TX_LENGTH] = 1;
tx[layout.TX_PORT] = localPort(fd);
txBytes.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1], layout.TX_DESTINATION * 4);
header[layout.HEADER_TX_COUNT] = 1;
closeFd(fd);
loop.flush();
