// BullMQ: one worker process with a concurrency of 32. Prints its figures as JSON, as the sides in Python do.
import net from 'node:net';
import { Queue, Worker } from 'bullmq';

const PRODUCERS = 32;
const WAKES = 50;
const url = new URL(process.env.REDIS_URL);
const count = Number(process.env.COUNT);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
// A result is kept as long as the others keep theirs.
const options = { removeOnComplete: { age: 3600 } };
const name = `bench${process.pid}`;

function reads() {
  return new Promise((resolve, reject) => {
    let text = '';
    const socket = net.connect(connection.port, connection.host, () => socket.write('INFO stats\r\n'));
    socket.on('error', reject);
    socket.on('data', (data) => {
      text += data;
      const found = /total_reads_processed:(\d+)/.exec(text);
      if (found && text.endsWith('\r\n')) {
        socket.destroy();
        resolve(Number(found[1]));
      }
    });
  });
}

const seconds = () => Number(process.hrtime.bigint()) / 1e9;
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

const queue = new Queue(name, { connection });
await queue.waitUntilReady();
let began = seconds();
let next = 0;
await Promise.all(
  Array.from({ length: PRODUCERS }, async () => {
    while (next < count) {
      next += 1;
      await queue.add('noop', { number: next }, options);
    }
  }),
);
const enqueued = count / (seconds() - began);

let done = 0;
let first = 0;
let started = () => {};
let finish;
const finished = new Promise((resolve) => (finish = resolve));
const before = await reads();
const worker = new Worker(
  name,
  async (job) => {
    done += 1;
    if (done === 1) first = seconds();
    if (done === count) finish(seconds());
    started(seconds());
    return job.data.number;
  },
  { connection, concurrency: PRODUCERS },
);
const last = await finished;
const after = await reads();

const wakes = [];
for (let number = 0; number < WAKES; number += 1) {
  await new Promise((resolve) => setTimeout(resolve, 20));
  const began = seconds();
  const seen = new Promise((resolve) => (started = resolve));
  await queue.add('noop', { number }, options);
  wakes.push(((await seen) - began) * 1e3);
}
console.log(
  JSON.stringify({
    'tasks/s': (count - 1) / (last - first),
    'enqueues/s': enqueued,
    'round trips a task': (after - before) / count,
    'ms to wake an idle worker': median(wakes),
  }),
);
process.exit(0);
