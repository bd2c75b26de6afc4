// Usage: node write.js DIR KEYS N
//
// Writes the N-th version of a repository below DIR with the models of tuf-js,
// as internal/interop wants it (see writer there). The private keys lie in the
// file KEYS, made with the first version.
const { Root, Timestamp, Snapshot, Targets, Metadata, MetaFile, TargetFile, Key, Signature } = require('@tufjs/models');
const { canonicalize } = require('@tufjs/canonical-json');
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');

const [dir, keyFile, number] = process.argv.slice(2);
const version = Number(number);
const expires = new Date(Date.now() + 30 * 86400e3).toISOString().replace(/\.\d+Z$/, 'Z');
const pems = fs.existsSync(keyFile) ? JSON.parse(fs.readFileSync(keyFile)) : {};

// The name of a key says its kind: rsa, ecdsa, else ed25519.
function key(name) {
  const kind = { rsa: ['rsa', 'rsassa-pss-sha256'], ecdsa: ['ecdsa', 'ecdsa-sha2-nistp256'] }[name.split(' ')[0]] || ['ed25519', 'ed25519'];
  if (!pems[name]) {
    const { privateKey } = crypto.generateKeyPairSync(kind[0] === 'ecdsa' ? 'ec' : kind[0], { modulusLength: 2048, namedCurve: 'P-256' });
    pems[name] = privateKey.export({ type: 'pkcs8', format: 'pem' });
  }
  const secret = crypto.createPrivateKey(pems[name]);
  const spki = crypto.createPublicKey(secret);
  const pub = kind[0] === 'ed25519' ? spki.export({ type: 'spki', format: 'der' }).subarray(-32).toString('hex') : spki.export({ type: 'spki', format: 'pem' });
  const json = { keytype: kind[0], scheme: kind[1], keyval: { public: pub } };
  const keyID = crypto.createHash('sha256').update(canonicalize(json)).digest('hex');
  const sign = (data) => {
    const how = kind[0] === 'rsa' ? { key: secret, padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : secret;
    return new Signature({ keyID, sig: crypto.sign(kind[0] === 'ed25519' ? null : 'sha256', data, how).toString('hex') });
  };
  return { id: keyID, json, public: Key.fromJSON(keyID, { ...json }), sign };
}

function write(name, data) {
  const file = path.join(dir, name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, data);
}

function publish(name, signed, ...names) {
  const md = new Metadata(signed);
  names.forEach((n) => md.sign(key(n).sign));
  const data = Buffer.from(JSON.stringify(md.toJSON()));
  write('metadata/' + name + '.json', data);
  return data;
}

const snapshot = new Snapshot({ version, expires, meta: {} });

// A targets role: its files, and whom it delegates to.
function role(name, signer, files, delegations) {
  const targets = {};
  for (const [p, content] of Object.entries(files)) {
    const sum = crypto.createHash('sha256').update(content).digest('hex');
    targets[p] = new TargetFile({ path: p, length: content.length, hashes: { sha256: sum } }).toJSON();
    write(path.join('targets', path.dirname(p), sum + '.' + path.basename(p)), content);
  }
  const json = { _type: 'targets', spec_version: '1.0.31', version, expires, targets };
  publish(version + '.' + name, Targets.fromJSON(delegations ? { ...json, delegations } : json), signer);
  snapshot.meta[name + '.json'] = new MetaFile({ version });
}

function delegations(...roles) {
  const keys = {};
  roles.forEach((r) => (keys[key(r.key).id] = key(r.key).json));
  return { keys, roles: roles.map(({ key: k, ...r }) => ({ terminating: false, threshold: 1, ...r, keyids: [key(k).id] })) };
}

// Classic hash bins: of each the first digit of the path's hash.
const digits = [...'0123456789abcdef'];
const bins = [0, 1, 2, 3].map((i) => ({ name: 'bin-' + i, key: 'bin', path_hash_prefixes: digits.slice(4 * i, 4 * i + 4) }));

const first = version === 1;
role('targets', 'targets', { 'top.txt': first ? 'top' : 'top 2' }, delegations(
  { name: 'lib', key: 'lib', paths: ['lib/*', 'lib/deep/*'] },
  { name: 'bins', key: 'ecdsa bins', paths: ['bin/*'], terminating: true }));
role('lib', 'lib', first ? { 'lib/a.txt': 'a' } : {}, delegations({ name: 'deep', key: 'deep', paths: ['lib/deep/*'] }));
role('deep', 'deep', { 'lib/deep/b.txt': 'b' });
role('bins', 'ecdsa bins', {}, delegations(...bins));
bins.forEach((bin) => {
  const files = {};
  for (let i = 0; i < 10; i++) {
    const sum = crypto.createHash('sha256').update('bin/' + i).digest('hex');
    if (bin.path_hash_prefixes.includes(sum[0])) files['bin/' + i] = String(i);
  }
  role(bin.name, 'bin', files);
});

const roles = first
  ? { root: ['rsa root', 'ecdsa root'], targets: ['targets'], snapshot: ['snapshot'], timestamp: ['ecdsa timestamp'] }
  : { root: ['root 2', 'ecdsa root 2'], targets: ['targets'], snapshot: ['ecdsa snapshot 2'], timestamp: ['rsa timestamp 2'] };
const root = new Root({ version, expires });
for (const [name, names] of Object.entries(roles)) {
  names.forEach((n) => root.addKey(key(n).public, name));
  root.roles[name].threshold = names.length;
}
publish(version + '.root', root, ...(first ? [] : ['rsa root', 'ecdsa root']), ...roles.root);
const data = publish(version + '.snapshot', snapshot, ...roles.snapshot);
const listed = new MetaFile({ version, length: data.length, hashes: { sha256: crypto.createHash('sha256').update(data).digest('hex') } });
publish('timestamp', new Timestamp({ version, expires, snapshotMeta: listed }), ...roles.timestamp);
fs.writeFileSync(keyFile, JSON.stringify(pems));
