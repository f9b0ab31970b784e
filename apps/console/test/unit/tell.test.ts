import { expect, it } from 'vitest';
import { pieces } from '../../src/lib/json';
import { merged, progress, said, sent } from '../../src/lib/tell';
import { call, webhook } from './entries';

const from = (message: object) => webhook(1, { contacts: [{ profile: { name: 'A\u202ena' } }], messages: [{ id: 'wamid.1', from_user_id: 'ZZ.a', ...message }] });

it('says what a webhook says, without what would make it read otherwise', () => {
  expect(said(from({ type: 'text', text: { body: 'hi \u202egnp' } }))).toEqual({ what: 'text', id: 'wamid.1', user: 'ZZ.a', name: 'Ana', text: 'hi gnp' });
  expect(said(from({ type: 'reaction', reaction: { emoji: '👍' } }))).toMatchObject({ what: 'reaction', text: '👍' });
  expect(said(from({ type: 'reaction', reaction: {} }))).toMatchObject({ what: 'reaction', text: '' });
  expect(said(from({ type: 'edit', edit: { message: { text: { body: 'new' } } } }))).toMatchObject({ what: 'edit', text: 'new' });
  expect(said(from({ type: 'revoke' }))).toMatchObject({ what: 'revoke' });
  expect(said(from({ type: 'image', image: { mime_type: 'image/png', id: '7' } }))).toMatchObject({ what: 'file', text: 'image/png' });
  expect(said(from({ type: 'document', document: { filename: 'a\u202efdp.exe', mime_type: 'x/y' } }))).toMatchObject({ what: 'file', text: 'afdp.exe' });
  expect(said(from({ type: 'video' }))).toMatchObject({ what: 'file', text: '' });
  expect(said(from({ type: 'hologram' }))).toMatchObject({ what: 'other' });
});

it('has no words for what is none', () => {
  for (const body of ['', '{', 'null', '[]', '{"entry":[]}', '{"entry":{"0":1}}', '{"entry":[{"changes":[{"value":{"statuses":[{"status":"lost"}]}}]}]}'])
    expect([body, said(webhook(1, {}, { body }))]).toEqual([body, null]);
});

it('follows a message from the call to its statuses', () => {
  const request = JSON.stringify({ recipient: 'ZZ.a', type: 'text', text: { body: 'hello' } });
  const made = call(1, request, '{"messages":[{"id":"wamid.9"}]}');
  expect(sent(made)).toEqual({ id: 'wamid.9', user: 'ZZ.a', text: 'hello' });
  for (const other of [call(1, null, '{}'), { ...made, status: 400 }, { ...made, path: '/v23.0/1' }]) expect(sent(other)).toBeNull();
  const status = (id: number, status: string) => webhook(id, { statuses: [{ id: 'wamid.9', status, recipient_user_id: 'ZZ.a' }] });
  const { statuses, texts } = progress([made, status(2, 'sent'), status(3, 'read')]);
  expect([...statuses.get('wamid.9')!]).toEqual(['sent', 'read']);
  expect(texts.get('wamid.9')).toBe('hello');
});

it('keeps entries once, in the order of what happened, and not for ever', () => {
  const [first, second, third] = [webhook(1, {}), webhook(2, {}), webhook(3, {})];
  const changed = { ...first, revision: 9, state: 'expired' as const };
  expect(merged([first, second], [third, changed], 10).map(({ id, revision }) => [id, revision])).toEqual([[1, 9], [2, 2], [3, 3]]);
  expect(merged([first, second], [third], 2).map(({ id }) => id)).toEqual([2, 3]);
});

it('shows JSON in pieces that are the whole of it', () => {
  const text = '{"a\\"b":[1,-2.5e3,true,null,"c: \\u202e\\\\"],"é":{}}';
  const shown = pieces(text);
  expect(JSON.parse(shown.map((piece) => piece.text).join(''))).toEqual(JSON.parse(text.replace('\\u202e', '')));
  expect(shown.filter(({ kind }) => kind === 'key').map((piece) => piece.text)).toEqual(['"a\\"b"', '"é"']);
  expect(shown.filter(({ kind }) => kind === 'other').map((piece) => piece.text)).toEqual(['1', '-2500', 'true', 'null']);
  expect(pieces('{no json')).toEqual([{ kind: 'plain', text: '{no json' }]);
});
