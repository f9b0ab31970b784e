/** Messages with something to choose, for looking at and for tests. */
import type { Field, Interactive, Person, Shown } from '../src/lib/engine/types';

const nothing: Interactive = { header: null, body: '', footer: null, action: { kind: 'nothing' }, template: null };
const interactive = (of: Partial<Interactive>): Shown => ({ kind: 'interactive', interactive: { ...nothing, ...of }, file: null });
const field = (of: Partial<Field> & Pick<Field, 'name' | 'label' | 'kind'>): Field => ({ required: false, options: [], hint: null, value: null, min: null, max: null, ...of });

export const BUTTONS = interactive({
  header: { kind: 'text', value: 'Your table on Friday' },
  body: 'We have you down for four at 19:30. Does that still suit you? https://cortado.example/table',
  footer: 'Cortado Coffee, Market Square 3',
  action: { kind: 'buttons', value: [{ kind: 'reply', id: 'yes', title: 'Yes, we are coming' }, { kind: 'reply', id: 'later', title: 'An hour later, please' }, { kind: 'reply', id: 'no', title: 'No, cancel it' }] },
});

export const LIST = interactive({
  body: 'Which beans shall we set aside?',
  action: {
    kind: 'list',
    value: {
      button: 'See the beans',
      sections: [
        { title: 'Africa', rows: [{ id: 'yirga', title: 'Yirgacheffe', description: 'Blueberry and jasmine' }, { id: 'kenya', title: 'Kenya AA', description: null }] },
        { title: 'America', rows: [{ id: 'huila', title: 'Huila', description: 'Caramel and red apple' }] },
      ],
    },
  },
});

export const TEMPLATE = interactive({
  body: 'Order 1207 is ready. Your code at the door is 4417.',
  template: { name: 'order_ready', language: 'en', category: 'utility' },
  action: {
    kind: 'buttons',
    value: [{ kind: 'url', title: 'Where it is', url: 'https://cortado.example/orders/1207?utm=x' }, { kind: 'phone', title: 'Call us', number: '+49 (30) 123-4567' }, { kind: 'copy', title: 'Copy the code', code: '4417' }],
  },
});

export const OFFER: Shown = {
  kind: 'interactive',
  interactive: { ...nothing, body: 'A second bag at half the price, until Sunday.', footer: 'Answer STOP to hear no more.', template: { name: 'half_price', language: 'en', category: 'marketing' }, action: { kind: 'buttons', value: [{ kind: 'reply', id: 'bag', title: 'I take one' }] } },
  file: { name: 'beans.png', mediaType: 'image/png', size: 214_000, caption: '', preview: null, expires: 0 },
};

export const FORM = interactive({
  body: 'For the delivery we need to know a few things.',
  action: {
    kind: 'form',
    value: {
      kind: 'flow',
      button: 'Fill it in',
      token: 't1',
      screens: [
        {
          title: 'Where to',
          text: 'We deliver within the city.',
          button: 'Continue',
          fields: [
            field({ name: 'street', label: 'Street and number', kind: 'text', required: true, min: 3 }),
            field({ name: 'mail', label: 'E-mail', kind: 'email', hint: 'For the bill' }),
            field({ name: 'floor', label: 'Floor', kind: 'number', max: 2 }),
          ],
        },
        {
          title: 'When and how',
          text: null,
          button: 'Send it',
          fields: [
            field({ name: 'day', label: 'Day', kind: 'date', required: true }),
            field({ name: 'time', label: 'Time of day', kind: 'one', required: true, options: [{ id: 'am', title: 'Morning' }, { id: 'pm', title: 'Afternoon' }] }),
            field({ name: 'extra', label: 'With it', kind: 'some', options: [{ id: 'mug', title: 'A mug' }, { id: 'filter', title: 'Filters' }] }),
            field({ name: 'town', label: 'District', kind: 'one', options: ['North', 'East', 'South', 'West', 'Centre', 'Harbour', 'Hills'].map((title) => ({ id: title, title })) }),
            field({ name: 'note', label: 'Anything else', kind: 'area' }),
            field({ name: 'terms', label: 'I have read the terms', kind: 'yes', required: true }),
          ],
        },
      ],
    },
  },
});

export const CONTACT_FORM = interactive({
  body: 'How can the courier reach you?',
  action: {
    kind: 'form',
    value: {
      kind: 'contact',
      button: 'Share contact',
      token: null,
      screens: [
        { title: '', text: null, button: 'Share', fields: [field({ name: 'name', label: 'Name', kind: 'text', required: true }), field({ name: 'phone', label: 'Phone number', kind: 'phone', required: true }), field({ name: 'email', label: 'E-mail address', kind: 'email' })] },
      ],
    },
  },
});

export const PRODUCTS = interactive({
  body: 'From this week’s roast:',
  action: {
    kind: 'products',
    value: {
      catalog: 'c1',
      button: 'See what there is',
      items: [
        { id: 'yirga', name: 'Yirgacheffe, 250 g', description: 'Blueberry and jasmine', price: 12_500, currency: 'EUR', section: 'Beans' },
        { id: 'huila', name: 'Huila, 250 g', description: null, price: 10_900, currency: 'EUR', section: 'Beans' },
        { id: 'mug', name: 'Mug', description: 'Made by hand', price: 18_000, currency: 'EUR', section: 'For the table' },
      ],
    },
  },
});

export const WHERE = interactive({ body: 'Where shall the courier go?', action: { kind: 'location' } });

export const PLACE: Shown = { kind: 'location', location: { latitude: 52.5170365, longitude: 13.3888599, name: 'Cortado Coffee', address: 'Market Square 3, Berlin' } };

const ANA: Person = {
  name: { formatted_name: 'Ana Roaster' },
  phones: [{ phone: '+49 30 1234567', type: 'WORK' }],
  emails: [{ email: 'ana@cortado.example' }],
  urls: [{ url: 'https://cortado.example/ana' }],
  addresses: [{ street: 'Market Square 3', city: 'Berlin', zip: '10117' }],
  org: { company: 'Cortado Coffee', title: 'Roaster' },
  birthday: '1990-02-01',
};
export const PERSON: Shown = { kind: 'contacts', persons: [ANA] };

/** Everything that a business can fill, filled with this. */
export function hostileOffers(bad: string): Shown[] {
  return [
    interactive({
      header: { kind: 'text', value: bad },
      body: bad,
      footer: bad,
      template: { name: bad, language: bad, category: 'marketing' },
      action: {
        kind: 'buttons',
        value: [
          { kind: 'reply', id: bad, title: bad },
          { kind: 'url', title: bad, url: `https://evil.example/${bad}` },
          { kind: 'url', title: 'Your bank', url: 'https://bank.example@evil.example/' },
          { kind: 'url', title: 'Press', url: 'javascript:window.pwned=1' },
          { kind: 'phone', title: bad, number: bad },
          { kind: 'copy', title: bad, code: bad },
        ],
      },
    }),
    interactive({ body: bad, action: { kind: 'list', value: { button: bad, sections: [{ title: bad, rows: [{ id: bad, title: bad, description: bad }] }] } } }),
    interactive({ body: bad, action: { kind: 'products', value: { catalog: bad, button: bad, items: [{ id: bad, name: bad, description: bad, price: 1, currency: bad.slice(0, 3), section: bad }] } } }),
    interactive({
      body: bad,
      action: { kind: 'form', value: { kind: 'flow', button: bad, token: bad, screens: [{ title: bad, text: bad, button: bad, fields: [field({ name: bad, label: bad, kind: 'one', hint: bad, value: bad, options: [{ id: bad, title: bad }] })] }] } },
    }),
    interactive({ body: '', header: { kind: 'location', value: { latitude: 1, longitude: 2, name: bad, address: bad } } }),
    { kind: 'location', location: { latitude: 1, longitude: 2, name: bad, address: bad } },
    {
      kind: 'contacts',
      persons: [{ name: { formatted_name: bad }, phones: [{ phone: bad, type: bad }], emails: [{ email: bad }], urls: [{ url: bad }, { url: 'javascript:window.pwned=1' }], addresses: [{ street: bad }], org: { company: bad, department: bad, title: bad }, birthday: bad }],
    },
  ];
}
