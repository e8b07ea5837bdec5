//! A source file as a tree of items, with the range of each and its tokens, so that two versions of a file can be compared
//! item by item. Comments and documentation are not part of the tokens: they may differ.

use std::ops::Range;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{
    Attribute, GenericArgument, ImplItem, Item, PathArguments, ReturnType, TraitItem, Type, TypeParamBound,
    UseTree,
};

/// An item, or the contents of a file.
#[derive(Debug)]
pub struct Node {
    /// What identifies it among its siblings.
    pub key: Key,
    /// What it is, for messages: `fn sums`, `impl Store for Cassandra`.
    pub name: String,
    /// Its text, with attributes and documentation.
    pub range: Range<usize>,
    /// Its line, from 1.
    pub line: usize,
    /// All of its tokens.
    pub tokens: String,
    /// True if it exists in tests only.
    pub is_test: bool,
    /// What is in it.
    pub detail: Detail,
}

/// What identifies an item among its siblings. Two with the same key are the same item of two versions, or they are of
/// different configurations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A function, a constant, or a variable.
    Value(String),
    /// A type, a trait, or a module.
    Type(String),
    /// An implementation: its head.
    Implementation(String),
    /// An import: its text, as a whole item with one path.
    Import(String),
    /// Anything else: all of its tokens.
    Other(String),
}

/// What is in an item.
#[derive(Debug)]
pub enum Detail {
    /// A function with a body.
    Function(Function),
    /// Items.
    Container(Container),
    /// An import of this name; `None` for all names of a module, and for a trait without a name.
    Import(Option<String>),
    /// Nothing that is compared further.
    Leaf,
}

/// A function with a body.
#[derive(Debug)]
pub struct Function {
    /// The tokens before its body: attributes, visibility, signature.
    pub head: String,
    /// The tokens of its body.
    pub body: String,
    /// The text of its body, with the braces.
    pub range: Range<usize>,
    /// True if it can be evaluated at compile time.
    pub is_const: bool,
    /// What two of its bodies return.
    pub returns: Returns,
}

/// How the types that two bodies of one function return fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// They are the same, or not known to be different.
    Nameable,
    /// `impl Future`: each body returns a type of its own, and a sum of the two will do.
    Future,
    /// `impl Iterator`: the same.
    Iterator,
    /// `Option` or `Result` of `impl Iterator`.
    MappedIterator,
}

/// The items of a file, module, trait or implementation.
#[derive(Debug)]
pub struct Container {
    /// The tokens before its items.
    pub head: String,
    /// The items; an import of several paths is several items.
    pub items: Vec<Node>,
    /// Where items can be added.
    pub end: usize,
    /// True if its functions are found by their place, not by a name: it implements a trait.
    pub implements_trait: bool,
}

/// The items of a file.
///
/// # Errors
/// If it is not Rust.
pub fn parse(text: &str) -> syn::Result<Container> {
    let file = syn::parse_file(text)?;
    let head = plain(file.attrs.iter().map(ToTokens::to_token_stream).collect());
    Ok(Container {
        head,
        items: file.items.iter().flat_map(node_of).collect(),
        end: text.len(),
        implements_trait: false,
    })
}

/// Tokens without documentation, as text with one space between any two.
fn plain(tokens: TokenStream) -> String {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut text = String::new();
    let mut rest = &trees[..];
    while let [tree, after @ ..] = rest {
        if let Some(length) = documentation(rest) {
            rest = &rest[length..];
            continue;
        }
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("( ", ") "),
                    Delimiter::Brace => ("{ ", "} "),
                    Delimiter::Bracket => ("[ ", "] "),
                    Delimiter::None => ("", ""),
                };
                text += open;
                text += &plain(group.stream());
                text += close;
            }
            tree => {
                text += &tree.to_string();
                text.push(' ');
            }
        }
        rest = after;
    }
    text
}

/// The number of trees of the documentation, `#[doc = ""]` or `#![doc = ""]`, with which these begin.
fn documentation(trees: &[TokenTree]) -> Option<usize> {
    let is_mark =
        |tree: &TokenTree, mark: char| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == mark);
    let (group, length) = match trees {
        [mark, TokenTree::Group(group), ..] if is_mark(mark, '#') => (group, 2),
        [mark, inner, TokenTree::Group(group), ..] if is_mark(mark, '#') && is_mark(inner, '!') => (group, 3),
        _ => return None,
    };
    let first = group.stream().into_iter().next();
    let is_documentation =
        group.delimiter() == Delimiter::Bracket && first.is_some_and(|first| first.to_string() == "doc");
    is_documentation.then_some(length)
}

/// The tokens before the last group, and that group.
fn split(tokens: TokenStream) -> (String, TokenStream) {
    let mut trees: Vec<TokenTree> = tokens.into_iter().collect();
    let last = trees.pop();
    (plain(trees.into_iter().collect()), last.into_iter().collect())
}

/// True if one of the attributes leaves the item to tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = plain(attribute.to_token_stream());
        text == "# [ cfg ( test ) ] " || text == "# [ test ] "
    })
}

/// What `node` needs to know about an item.
struct Facts<'a> {
    key: Key,
    name: String,
    attributes: &'a [Attribute],
    detail: Detail,
}

fn node(item: &(impl ToTokens + Spanned), facts: Facts) -> Node {
    let Facts { key, name, attributes, detail } = facts;
    let span = item.span();
    let tokens = match &detail {
        Detail::Function(function) => format!("{}{}", function.head, function.body),
        Detail::Container(container) => {
            let items = container.items.iter().map(|item| item.tokens.as_str());
            [container.head.as_str()].into_iter().chain(items).collect()
        }
        Detail::Import(_) | Detail::Leaf => plain(item.to_token_stream()),
    };
    Node {
        key,
        name,
        range: span.byte_range(),
        line: span.start().line,
        tokens,
        is_test: is_test(attributes),
        detail,
    }
}

fn function(item: &impl ToTokens, signature: &syn::Signature, block: Option<&syn::Block>) -> Detail {
    let Some(block) = block else { return Detail::Leaf };
    let (head, body) = split(item.to_token_stream());
    let braces = &block.brace_token.span;
    let returns = match &signature.output {
        ReturnType::Type(_, returned) => Returns::of(returned),
        ReturnType::Default => Returns::Nameable,
    };
    Detail::Function(Function {
        head,
        body: plain(body),
        range: braces.open().byte_range().start..braces.close().byte_range().end,
        is_const: signature.constness.is_some(),
        returns,
    })
}

impl Returns {
    fn of(returned: &Type) -> Self {
        if is_impl(returned, "Future") {
            return Self::Future;
        }
        if is_impl(returned, "Iterator") {
            return Self::Iterator;
        }
        let Type::Path(path) = returned else { return Self::Nameable };
        let Some(last) = path.path.segments.last() else { return Self::Nameable };
        let PathArguments::AngleBracketed(arguments) = &last.arguments else { return Self::Nameable };
        let Some(GenericArgument::Type(first)) = arguments.args.first() else { return Self::Nameable };
        match (last.ident == "Option" || last.ident == "Result") && is_impl(first, "Iterator") {
            true => Self::MappedIterator,
            false => Self::Nameable,
        }
    }
}

/// True for `impl` of the trait.
fn is_impl(returned: &Type, name: &str) -> bool {
    let Type::ImplTrait(returned) = returned else { return false };
    returned.bounds.iter().any(|bound| match bound {
        TypeParamBound::Trait(bound) => {
            bound.path.segments.last().is_some_and(|segment| segment.ident == name)
        }
        _ => false,
    })
}

fn container(
    item: &impl ToTokens,
    braces: &syn::token::Brace,
    items: Vec<Node>,
    implements_trait: bool,
) -> Container {
    let (head, _) = split(item.to_token_stream());
    Container { head, items, end: braces.span.close().byte_range().start, implements_trait }
}

/// An item of a file or module; an import of several paths is several nodes.
fn node_of(item: &Item) -> Vec<Node> {
    let value = |ident: &syn::Ident| Key::Value(ident.to_string());
    let kind = |ident: &syn::Ident| Key::Type(ident.to_string());
    let (key, name, attributes, detail): (Key, String, &[Attribute], Detail) = match item {
        Item::Fn(each) => {
            let name = &each.sig.ident;
            (value(name), format!("fn {name}"), &each.attrs, function(each, &each.sig, Some(&each.block)))
        }
        Item::Const(each) => (value(&each.ident), format!("const {}", each.ident), &each.attrs, Detail::Leaf),
        Item::Static(each) => {
            (value(&each.ident), format!("static {}", each.ident), &each.attrs, Detail::Leaf)
        }
        Item::Struct(each) => {
            (kind(&each.ident), format!("struct {}", each.ident), &each.attrs, Detail::Leaf)
        }
        Item::Enum(each) => (kind(&each.ident), format!("enum {}", each.ident), &each.attrs, Detail::Leaf),
        Item::Type(each) => (kind(&each.ident), format!("type {}", each.ident), &each.attrs, Detail::Leaf),
        Item::Union(each) => (kind(&each.ident), format!("union {}", each.ident), &each.attrs, Detail::Leaf),
        Item::Trait(each) => {
            let items = each.items.iter().map(node_of_trait).collect();
            let detail = Detail::Container(container(each, &each.brace_token, items, false));
            (kind(&each.ident), format!("trait {}", each.ident), &each.attrs, detail)
        }
        Item::Mod(each) => {
            let detail = match &each.content {
                Some((braces, items)) => {
                    let items = items.iter().flat_map(node_of).collect();
                    Detail::Container(container(each, braces, items, false))
                }
                None => Detail::Leaf,
            };
            (kind(&each.ident), format!("mod {}", each.ident), &each.attrs, detail)
        }
        Item::Impl(each) => {
            let items = each.items.iter().map(node_of_implementation).collect();
            let found = container(each, &each.brace_token, items, each.trait_.is_some());
            let of = plain(each.self_ty.to_token_stream()).replace(' ', "");
            let name = match &each.trait_ {
                Some((path, _)) => {
                    format!("impl {} for {of}", plain(path.to_token_stream()).replace(' ', ""))
                }
                None => format!("impl {of}"),
            };
            (Key::Implementation(found.head.clone()), name, &each.attrs, Detail::Container(found))
        }
        Item::Use(each) => return imports(each),
        other => {
            let tokens = plain(other.to_token_stream());
            let name = format!("`{}`", tokens.split(" (").next().unwrap_or_default().trim());
            let name = if name.len() > 60 { "an item".to_owned() } else { name };
            (Key::Other(tokens), name, &[], Detail::Leaf)
        }
    };
    vec![node(item, Facts { key, name, attributes, detail })]
}

fn node_of_trait(item: &TraitItem) -> Node {
    let (key, name, attributes, detail): (Key, String, &[Attribute], Detail) = match item {
        TraitItem::Fn(each) => {
            let name = &each.sig.ident;
            let detail = function(each, &each.sig, each.default.as_ref());
            (Key::Value(name.to_string()), format!("fn {name}"), &each.attrs, detail)
        }
        TraitItem::Const(each) => {
            (Key::Value(each.ident.to_string()), format!("const {}", each.ident), &each.attrs, Detail::Leaf)
        }
        TraitItem::Type(each) => {
            (Key::Type(each.ident.to_string()), format!("type {}", each.ident), &each.attrs, Detail::Leaf)
        }
        other => {
            (Key::Other(plain(other.to_token_stream())), "an item of a trait".to_owned(), &[], Detail::Leaf)
        }
    };
    node(item, Facts { key, name, attributes, detail })
}

fn node_of_implementation(item: &ImplItem) -> Node {
    let (key, name, attributes, detail): (Key, String, &[Attribute], Detail) = match item {
        ImplItem::Fn(each) => {
            let name = &each.sig.ident;
            let detail = function(each, &each.sig, Some(&each.block));
            (Key::Value(name.to_string()), format!("fn {name}"), &each.attrs, detail)
        }
        ImplItem::Const(each) => {
            (Key::Value(each.ident.to_string()), format!("const {}", each.ident), &each.attrs, Detail::Leaf)
        }
        ImplItem::Type(each) => {
            (Key::Type(each.ident.to_string()), format!("type {}", each.ident), &each.attrs, Detail::Leaf)
        }
        other => (
            Key::Other(plain(other.to_token_stream())),
            "an item of an implementation".to_owned(),
            &[],
            Detail::Leaf,
        ),
    };
    node(item, Facts { key, name, attributes, detail })
}

/// Each path of an import, as an import of its own.
fn imports(item: &syn::ItemUse) -> Vec<Node> {
    let attributes = plain(item.attrs.iter().map(ToTokens::to_token_stream).collect());
    let visibility = plain(item.vis.to_token_stream());
    let colons = if item.leading_colon.is_some() { "::" } else { "" };
    let mut paths = Vec::new();
    add_paths(&item.tree, colons.to_owned(), &mut paths);
    paths
        .into_iter()
        .map(|(path, name)| {
            let text = format!("{attributes}{visibility}use {path};");
            Node {
                tokens: text.clone(),
                ..node(
                    item,
                    Facts {
                        name: format!("`use {path}`"),
                        key: Key::Import(text),
                        attributes: &item.attrs,
                        detail: Detail::Import(name),
                    },
                )
            }
        })
        .collect()
}

fn add_paths(tree: &UseTree, before: String, paths: &mut Vec<(String, Option<String>)>) {
    match tree {
        UseTree::Path(path) => add_paths(&path.tree, format!("{before}{}::", path.ident), paths),
        UseTree::Name(name) if name.ident == "self" => {
            let last = before.trim_end_matches("::").rsplit("::").next().unwrap_or_default().to_owned();
            paths.push((format!("{before}{{self}}"), Some(last)));
        }
        UseTree::Name(name) => paths.push((format!("{before}{}", name.ident), Some(name.ident.to_string()))),
        UseTree::Rename(renamed) => {
            let name = renamed.rename.to_string();
            let path = match renamed.ident == "self" {
                true => format!("{before}{{self as {name}}}"),
                false => format!("{before}{} as {name}", renamed.ident),
            };
            paths.push((path, (name != "_").then_some(name)));
        }
        UseTree::Glob(_) => paths.push((format!("{before}*"), None)),
        UseTree::Group(group) => {
            group.items.iter().for_each(|each| add_paths(each, before.clone(), paths));
        }
    }
}
