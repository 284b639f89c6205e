// A session of etcd's most used client for JavaScript (npm: etcd3): keys, ranges, transactions, leases, watches, locks, elections, software
// transactions, namespaces, users. Prints a line for each step, with ids and times taken out, so that two servers can be compared: etcd3-js.sh does it.
//
//     node etcd3.js 127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379

const { Etcd3 } = require('etcd3');
const { noop } = require('cockatiel');
const net = require('net');

const endpoints = process.argv[2].split(',');
const hosts = endpoints.map((endpoint) => `http://${endpoint}`);
// Errors are what is compared: nothing keeps the client from asking again.
const client = (options) => new Etcd3({ hosts, faultHandling: { global: noop, host: () => noop }, ...options });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What two servers need not agree on.
const LOOSE = /"(cluster_id|member_id|raft_term|leader|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|dbSizeQuota|ID|lease|lease_id|revision|[a-z]+_revision|hash|TTL|memberID)":("[^"]*"|[0-9]+)/g;

function shown(value) {
  if (value === undefined) return 'undefined';
  const text = JSON.stringify(value, (_, inner) =>
    inner && inner.type === 'Buffer' ? Buffer.from(inner.data).toString() : typeof inner === 'bigint' ? `${inner}` : inner);
  return text.replace(LOOSE, '"$1":N');
}

async function step(name, act) {
  try {
    console.log(`${name}: ${shown(await act())}`);
  } catch (error) {
    console.log(`${name}: ${error.constructor.name}: ${error.message.replace(/[0-9a-f]{12,}|[0-9]{5,}/g, 'N')}`);
  }
}

// Waits for an event, but not for ever.
function event(emitter, name, ms = 8000) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${name} within ${ms} ms`)), ms);
    emitter.once(name, (value) => { clearTimeout(late); resolve(value); });
  });
}

async function until(found, ms = 8000) {
  for (const end = Date.now() + ms; Date.now() < end; await pause(20)) if (await found()) return true;
  throw new Error(`not within ${ms} ms`);
}

async function keys(c) {
  await step('delete all', async () => { await c.delete().all(); return c.getAll().count(); });
  await step('get nothing', () => c.get('a').string());
  await step('put', () => c.put('a').value('1'));
  await step('put with previous', () => c.put('a').value('2').getPrevious());
  await step('get', () => c.get('a').string());
  await step('get number', () => c.get('a').number());
  await step('get json', async () => { await c.put('j').value(JSON.stringify({ x: [1] })); return c.get('j').json(); });
  await step('get exec', () => c.get('a').exec());
  await step('binary', async () => { await c.put(Buffer.from([0, 255])).value(Buffer.from([1, 0, 254])); return c.get(Buffer.from([0, 255])).buffer(); });
  await step('empty value', async () => { await c.put('e').value(''); return c.get('e').string(); });
  await step('exists', async () => [await c.get('a').exists(), await c.get('no').exists()]);
  for (const name of ['p/a', 'p/b', 'p/c']) await c.put(name).value(name.toUpperCase());
  await step('prefix', () => c.getAll().prefix('p/').strings());
  await step('prefix keys', () => c.getAll().prefix('p/').keys());
  await step('prefix count', () => c.getAll().prefix('p/').count());
  await step('sorted', () => c.getAll().prefix('p/').sort('Mod', 'Descend').limit(2).keys());
  await step('range', () => c.getAll().inRange({ start: 'p/a', end: 'p/c' }).keys());
  await step('range of nothing', () => c.getAll().inRange({ start: 'x', end: 'w' }).keys());
  await step('numbers', () => c.getAll().prefix('a').numbers());
  await step('serializable', () => c.get('a').serializable(true).string());
  await step('delete one', () => c.delete().key('p/a').getPrevious());
  await step('delete range', () => c.delete().range(c.range({ start: 'p/b', end: 'p/d' })));
  await step('future revision', () => c.get('a').revision(999999999).string());
  await step('touch', async () => { await c.put('a').touch(); return c.get('a').string(); });
  await step('touch nothing', () => c.put('nothing').touch());
  await step('empty key', () => c.put('').value('x'));
  await step('large', async () => { const big = 'x'.repeat(1 << 20); await c.put('big').value(big); return (await c.get('big').string()).length; });
  await step('too large', () => c.put('big').value('x'.repeat(3 << 20)));
  await step('compacted', async () => {
    const { header } = await c.put('a').value('3');
    await c.put('a').value('4');
    await c.kv.compact({ revision: Number(header.revision) + 1, physical: false });
    return c.get('a').revision(Number(header.revision)).string();
  });
}

async function transactions(c) {
  await c.put('t').value('1');
  await step('then', () => c.if('t', 'Value', '==', '1').then(c.put('t').value('2'), c.get('t')).else(c.get('t')).commit());
  await step('else', () => c.if('t', 'Value', '==', '1').then(c.put('t').value('3')).else(c.get('t'), c.delete().key('none')).commit());
  await step('compares', () => c.if('t', 'Version', '==', 2).and('t', 'Create', '>', 0).and('t', 'Mod', '!=', 1).and('t', 'Value', '<', '9').commit());
  await step('lease compare', () => c.if('t', 'Lease', '==', 0).then(c.get('t')).commit());
  await step('same key twice', () => c.if('t', 'Version', '>', 0).then(c.put('t').value('x'), c.put('t').value('y')).commit());
  await step('nothing', () => c.if('t', 'Version', '>', 0).commit());
}

async function leases(c) {
  const lease = c.lease(5);
  await step('lease put', () => lease.put('l/1').value('x'));
  const fired = event(lease, 'keepaliveSucceeded');
  await step('keepalive once', () => lease.keepaliveOnce());
  await step('keepalive fires by itself', async () => { await fired; return true; });
  await step('revoke', async () => { await lease.revoke(); return [lease.revoked(), await c.get('l/1').string()]; });
  await step('revoke twice', () => lease.revoke());
  await step('put after', () => lease.put('l/2').value('x'));
  const short = c.lease(1, { autoKeepAlive: false });
  await step('ends by itself', async () => {
    await short.put('l/3').value('x');
    const there = await c.get('l/3').exists();
    await until(async () => !(await c.get('l/3').exists()));
    return there;
  });
  await step('keepalive of an ended one', () => short.keepaliveOnce());
  const lost = c.lease(2);
  await step('lost', async () => {
    const gone = event(lost, 'lost');
    await c.leaseClient.leaseRevoke({ ID: await lost.grant() });
    return (await gone).constructor.name;
  });
  const long = c.lease(60);
  await step('time to live', async () => {
    await long.put('l/4').value('x');
    const told = await c.leaseClient.leaseTimeToLive({ ID: await long.grant(), keys: true });
    return [told.grantedTTL, told.keys.map(String)];
  });
  await step('list', async () => (await c.leaseClient.leaseLeases()).leases.length > 0);
  await step('time to live of none', () => c.leaseClient.leaseTimeToLive({ ID: 7, keys: true }));
  await step('unknown lease', () => c.put('l/5').value('x').lease(7));
  await long.revoke();
}

async function watches(c) {
  const seen = [];
  const note = (watcher) => watcher
    .on('put', (kv, before) => seen.push(['put', `${kv.key}`, `${kv.value}`, before && `${before.value}`]))
    .on('delete', (kv, before) => seen.push(['delete', `${kv.key}`, before && `${before.value}`]));
  const told = async (count) => { await until(() => seen.length >= count); return seen.splice(0); };
  const all = note(await c.watch().prefix('w/').withPreviousKV().create());
  await c.put('w/a').value('1');
  await c.put('w/a').value('2');
  await c.delete().key('w/a');
  await step('watch', () => told(3));
  await all.cancel();
  await step('after its end', async () => { await c.put('w/a').value('3'); await pause(200); return seen.splice(0); });
  const { header } = await c.put('w/b').value('1');
  await c.put('w/b').value('2');
  const old = note(await c.watch().key('w/b').startRevision(header.revision).create());
  await step('from a revision', () => told(2));
  const puts = note(await c.watch().key('w/c').only('put').create());
  const deletes = note(await c.watch().key('w/d').ignore('put').create());
  await step('filters', async () => {
    for (const name of ['w/c', 'w/d']) { await c.put(name).value('1'); await c.delete().key(name); }
    return told(2);
  });
  await Promise.all([old.cancel(), puts.cancel(), deletes.cancel()]);
  await c.kv.compact({ revision: Number((await c.put('w/b').value('3')).header.revision) });
  await step('compacted', async () => {
    const late = c.watch().key('w/b').startRevision(2).watcher();
    return (await event(late, 'error')).message.replace(/[0-9]+/g, 'N');
  });
  await step('lease takes keys', async () => {
    const watcher = note(await c.watch().prefix('w/l').create());
    const lease = c.lease(60);
    await lease.put('w/l1').value('x');
    await lease.put('w/l2').value('x');
    await lease.revoke();
    const all = await told(4);
    await watcher.cancel();
    return all.map((one) => one.slice(0, 2));
  });
}

// A client whose connections break: it watches on, from where it was, and renews its lease.
async function reconnects(c) {
  const [host, port] = endpoints[0].split(':');
  const open = new Set();
  const proxy = net.createServer((near) => {
    const far = net.connect(Number(port), host);
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy()).on('close', () => { open.delete(one); other.destroy(); });
    }
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const through = client({ hosts: `http://127.0.0.1:${proxy.address().port}` });
  const seen = [];
  const watcher = await through.watch().prefix('r/').create();
  watcher.on('put', (kv) => seen.push(`${kv.value}`));
  const lease = through.lease(2);
  await lease.put('leased').value('x');
  await step('watch across lost connections', async () => {
    for (let round = 0; round < 5; round++) {
      await c.put('r/k').value(`${2 * round}`);
      await until(() => seen.length >= 2 * round + 1);
      for (const socket of open) socket.destroy();
      await c.put('r/k').value(`${2 * round + 1}`);
      await until(() => seen.length >= 2 * round + 2);
    }
    return seen;
  });
  await step('lease across lost connections', async () => { await pause(3000); return c.get('leased').string(); });
  await watcher.cancel();
  await lease.revoke();
  through.close();
  proxy.close();
}

async function locks(c) {
  const first = c.lock('lock').ttl(5);
  await step('lock', async () => { await first.acquire(); return true; });
  await step('lock twice', () => c.lock('lock').ttl(5).acquire());
  await step('unlock', async () => { await first.release(); await c.lock('lock').do(async () => 1); return c.getAll().prefix('lock').count(); });
  await step('do', () => c.lock('lock').ttl(5).do(() => 'done'));
}

async function elections(c) {
  const election = c.election('chief', 5);
  await step('nobody leads', () => election.leader());
  const one = election.campaign('one');
  await step('elected', async () => { await one.wait(); return election.leader(); });
  const observer = await election.observe();
  await step('observed', async () => { await until(() => observer.leader()); return observer.leader(); });
  const two = election.campaign('two');
  await step('proclaimed', async () => { await one.proclaim('one again'); await until(() => observer.leader() === 'one again'); return election.leader(); });
  await step('resigned', async () => { await one.resign(); await two.wait(); await until(() => observer.leader() === 'two'); return election.leader(); });
  await step('resigned as well', async () => { await two.resign(); await until(() => observer.leader() === undefined); return election.leader(); });
  await observer.cancel();
}

async function softwareTransactions(c) {
  await c.put('stm').value('0');
  const raise = () => c.stm({ retries: 100 }).transact(async (tx) => { const was = await tx.get('stm').number(); await tx.put('stm').value(was + 1); });
  await step('concurrent', async () => { await Promise.all(Array.from({ length: 10 }, raise)); return c.get('stm').number(); });
  await step('own writes are seen', () => c.stm().transact(async (tx) => { await tx.put('stm').value('x'); await tx.delete().key('a'); return [await tx.get('stm').string(), await tx.get('a').string()]; }));
  await step('given up', () => c.stm({ retries: 0 }).transact(async (tx) => { await tx.get('stm').string(); await c.put('stm').value('other'); await tx.put('stm').value('y'); }));
}

async function namespaces(c) {
  const inside = c.namespace('ns/');
  await step('put inside', async () => { await inside.put('k').value('v'); return [await inside.get('k').string(), await c.get('ns/k').string(), await inside.getAll().keys()]; });
  await step('watch inside', async () => {
    const watcher = await inside.watch().key('k').create();
    const put = event(watcher, 'put');
    await c.put('ns/k').value('w');
    const kv = await put;
    await watcher.cancel();
    return [`${kv.key}`, `${kv.value}`];
  });
  await step('lock inside', async () => { const lock = inside.lock('l'); await lock.acquire(); const there = await c.getAll().prefix('ns/').keys(); await lock.release(); return there; });
  await step('delete inside', async () => { await inside.delete().all(); return c.getAll().prefix('ns/').count(); });
}

async function users(c) {
  const login = (username, password) => client({ auth: { username, password } });
  const role = c.role('reader');
  await step('role', async () => { await role.create(); await role.grant([{ permission: 'Read', range: c.range({ prefix: 'pub/' }) }, { permission: 'Readwrite', key: Buffer.from('own') }]); return (await role.permissions()).map((one) => one.permission); });
  await step('role twice', () => role.create());
  await step('user', async () => { await c.user('ann').create('secret'); await c.user('ann').addRole('reader'); return (await c.user('ann').roles()).map((one) => one.name); });
  await step('user twice', () => c.user('ann').create('secret'));
  await step('no such role', () => c.user('ann').addRole('none'));
  await step('role not granted', () => c.user('ann').removeRole('none'));
  await step('no such user', () => c.user('none').roles());
  await step('enable without root', () => c.auth.authEnable());
  await c.user('root').create('root');
  await c.role('root').create();
  await c.user('root').addRole('root');
  await step('enable', async () => { await c.auth.authEnable(); return true; });
  const root = login('root', 'root'), ann = login('ann', 'secret');
  await step('nobody', () => c.get('pub/a').string());
  await step('wrong password', () => login('ann', 'wrong').get('pub/a').string());
  await step('allowed', async () => { await root.put('pub/a').value('1'); await ann.put('own').value('2'); return [await ann.get('pub/a').string(), await ann.get('own').string()]; });
  await step('denied write', () => ann.put('pub/a').value('x'));
  await step('denied read', () => ann.get('secret').string());
  await step('denied range', () => ann.getAll().all().keys());
  await step('denied transaction', () => ann.if('own', 'Version', '>', 0).then(ann.put('pub/a').value('x')).commit());
  await step('denied admin', () => ann.user('bob').create('x'));
  await step('denied watch', async () => (await event(ann.watch().key('secret').watcher(), 'error')).message);
  await step('allowed watch', async () => { const watcher = await login('ann', 'secret').watch().prefix('pub/').create(); const put = event(watcher, 'put'); await root.put('pub/b').value('3'); const kv = await put; await watcher.cancel(); return `${kv.value}`; });
  await step('lease of a user', async () => { const lease = ann.lease(5); await lease.put('own').value('4'); await lease.revoke(); return ann.get('own').string(); });
  await step('changed password', async () => { await root.user('ann').setPassword('new'); return login('ann', 'new').get('pub/a').string(); });
  await step('old password', () => login('ann', 'secret').get('pub/a').string());
  await step('taken right', async () => { await root.role('reader').revoke({ permission: 'Read', range: c.range({ prefix: 'pub/' }) }); return login('ann', 'new').get('pub/a').string(); });
  await step('taken role', async () => { await root.user('ann').removeRole('reader'); return login('ann', 'new').get('own').string(); });
  await step('disable', async () => { await root.auth.authDisable(); return c.get('pub/a').string(); });
  await step('away', async () => {
    for (const name of ['ann', 'root']) await c.user(name).delete();
    for (const name of ['reader', 'root']) await c.role(name).delete();
    return [(await c.auth.userList()).users, (await c.auth.roleList()).roles];
  });
}

async function others(c) {
  await step('members', async () => (await c.cluster.memberList({})).members.length > 0);
  await step('status', async () => Object.keys(await c.maintenance.status()).filter((name) => ['version', 'leader', 'header'].includes(name)));
  await step('alarms', async () => (await c.maintenance.alarm({ action: 'Get', memberID: 0, alarm: 'None' })).alarms);
  await step('defragment', async () => { await c.maintenance.defragment(); return true; });
  await step('snapshot', async () => {
    const stream = await c.maintenance.snapshot();
    let bytes = 0;
    await new Promise((resolve, reject) => stream.on('data', (piece) => { bytes += piece.blob.length; }).on('end', resolve).on('error', reject));
    return bytes > 0;
  });
  await step('unreachable', () => client({ hosts: 'http://127.0.0.1:1', dialTimeout: 500 }).get('a').string().catch((error) => { throw new Error(error.constructor.name); }));
}

async function main() {
  const c = client();
  for (const part of [keys, transactions, leases, watches, reconnects, locks, elections, softwareTransactions, namespaces, users, others]) {
    console.log(`# ${part.name}`);
    await part(c);
  }
  await c.delete().all();
  c.close();
}

main().then(() => process.exit(0), (error) => { console.log('FAILED', error); process.exit(1); });
