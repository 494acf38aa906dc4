//! Types and literals. A literal stands behind its type, so the type says how to read it.

use super::super::MAX_RANK;
use super::super::error::{ParseError, ParseErrorKind};
use super::super::lex::Kind;
use super::cursor::Cursor;
use crate::float;
use crate::program::{DataType, Dimension, Literal, Value, ValueType};

impl Cursor<'_> {
    /// `tensor<fp16, [1, ?]>`, `fp16`, `list<T, 2>`, `tuple<T, U>`, `dict<K, V>` or `state<T>`.
    pub(super) fn value_type(&mut self) -> Result<ValueType, ParseError> {
        let start = self.start();
        let name = self.word("a type")?;
        if !matches!(name, "tensor" | "list" | "tuple" | "dict" | "state") {
            return match DataType::from_name(name) {
                Some(dtype) => Ok(ValueType::scalar(dtype)),
                None => Err(self.error(start, ParseErrorKind::UnknownType(name.to_owned()))),
            };
        }
        self.expect(b'<', "`<`")?;
        let ty = self.nested(|cursor| cursor.type_parameters(name))?;
        self.expect(b'>', "`>`")?;
        Ok(ty)
    }

    fn type_parameters(&mut self, name: &str) -> Result<ValueType, ParseError> {
        Ok(match name {
            "tensor" => {
                let start = self.start();
                let name = self.word("an element type")?;
                let dtype = DataType::from_name(name)
                    .ok_or_else(|| self.error(start, ParseErrorKind::UnknownType(name.to_owned())))?;
                self.expect(b',', "`,`")?;
                let start = self.start();
                self.expect(b'[', "`[`")?;
                let shape = self.separated(b']', "`,` or `]`", Self::dimension)?;
                if shape.len() > MAX_RANK {
                    return Err(self.error(start, ParseErrorKind::RankTooHigh));
                }
                ValueType::Tensor { dtype, shape }
            }
            "list" => {
                let element = Box::new(self.value_type()?);
                self.expect(b',', "`,`")?;
                ValueType::List { element, length: self.dimension()? }
            }
            "dict" => {
                let key = Box::new(self.value_type()?);
                self.expect(b',', "`,`")?;
                ValueType::Dictionary(key, Box::new(self.value_type()?))
            }
            "state" => ValueType::State(Box::new(self.value_type()?)),
            _ => {
                let mut members = Vec::new();
                while !self.at(b'>') {
                    if !members.is_empty() {
                        self.expect(b',', "`,` or `>`")?;
                    }
                    members.push(self.value_type()?);
                }
                ValueType::Tuple(members)
            }
        })
    }

    fn dimension(&mut self) -> Result<Dimension, ParseError> {
        let dimension = match self.kind() {
            Kind::Mark(b'?') => Dimension::Unknown { variadic: false },
            Kind::Ellipsis => Dimension::Unknown { variadic: true },
            _ => match self.slice().parse() {
                Ok(extent) if self.kind() == Kind::Number => Dimension::Fixed(extent),
                _ => return Err(self.expected("an extent, `?` or `...`")),
            },
        };
        self.advance()?;
        Ok(dimension)
    }

    /// `TYPE(literal)`
    pub(super) fn value(&mut self) -> Result<Value, ParseError> {
        let ty = self.value_type()?;
        self.expect(b'(', "`(`")?;
        let literal = self.literal(&ty)?;
        self.expect(b')', "`)`")?;
        Ok(Value { ty, literal })
    }

    fn member(&mut self, ty: &ValueType) -> Result<Value, ParseError> {
        Ok(Value { ty: ty.clone(), literal: self.literal(ty)? })
    }

    fn literal(&mut self, ty: &ValueType) -> Result<Literal, ParseError> {
        if self.kind() == Kind::Word && self.slice() == "BLOBFILE" {
            return self.blob_reference();
        }
        match ty {
            ValueType::Tensor { dtype, shape } => self.tensor(*dtype, shape, ty),
            ValueType::List { element, length } => {
                let start = self.start();
                self.expect(b'[', "`[`, which begins a list")?;
                let members = self.separated(b']', "`,` or `]`", |c| c.member(element))?;
                self.check_length(start, length.fixed(), members.len())?;
                Ok(Literal::List(members))
            }
            ValueType::Tuple(types) => {
                let start = self.start();
                self.expect(b'(', "`(`, which begins a tuple")?;
                let mut rest = types.iter();
                let members = self.separated(b')', "`,` or `)`", |c| match rest.next() {
                    Some(member) => c.member(member),
                    None => Err(c.expected("`)`, for the type has no more members")),
                })?;
                self.check_length(start, Some(types.len() as u64), members.len())?;
                Ok(Literal::Tuple(members))
            }
            ValueType::Dictionary(key, value) => {
                self.expect(b'{', "`{`, which begins a dictionary")?;
                let entries = self.separated(b'}', "`,` or `}`", |c| {
                    c.expect(b'{', "`{`, which begins an entry")?;
                    let key = c.member(key)?;
                    c.expect(b',', "`,`")?;
                    let value = c.member(value)?;
                    c.expect(b'}', "`}`")?;
                    Ok((key, value))
                })?;
                Ok(Literal::Dictionary(entries))
            }
            ValueType::State(_) => Err(self.error(self.start(), ParseErrorKind::NoLiteral(ty.to_string()))),
        }
    }

    fn check_length(&self, start: usize, expected: Option<u64>, found: usize) -> Result<(), ParseError> {
        let found = found as u64;
        match expected {
            Some(expected) if expected != found => {
                Err(self.error(start, ParseErrorKind::Length { expected, found }))
            }
            _ => Ok(()),
        }
    }

    /// `BLOBFILE(path = string("…"), offset = uint64(64))`
    fn blob_reference(&mut self) -> Result<Literal, ParseError> {
        self.advance()?;
        self.expect(b'(', "`(`")?;
        self.keyword("path", "`path`")?;
        self.expect(b'=', "`=`")?;
        let (start, path) = (self.start(), self.value()?);
        let Some(file) = path.as_str().map(str::to_owned) else {
            return Err(self.misplaced(start, "a string"));
        };
        self.expect(b',', "`,`")?;
        self.keyword("offset", "`offset`")?;
        self.expect(b'=', "`=`")?;
        let (start, offset) = (self.start(), self.value()?);
        let offset = match (offset.ty.dtype(), offset.literal) {
            (Some(DataType::UInt64), Literal::Int(elements)) if elements.len() == 1 => elements[0] as u64,
            _ => return Err(self.misplaced(start, "an uint64")),
        };
        self.expect(b')', "`)`")?;
        Ok(Literal::Blob { file, offset })
    }

    /// The fault that the value before the cursor is not `expected`.
    fn misplaced(&self, start: usize, expected: &'static str) -> ParseError {
        self.error(start, ParseErrorKind::Expected { expected, found: "another value".to_owned() })
    }

    fn tensor(
        &mut self,
        dtype: DataType,
        shape: &[Dimension],
        ty: &ValueType,
    ) -> Result<Literal, ParseError> {
        if shape.contains(&Dimension::Unknown { variadic: true }) {
            return Err(self.error(self.start(), ParseErrorKind::NoLiteral(ty.to_string())));
        }
        let mut extents: Vec<_> = shape.iter().map(|extent| extent.fixed()).collect();
        Ok(match dtype {
            DataType::Bool => Literal::Bool(self.elements(&mut extents, Self::truth)?),
            DataType::String => Literal::String(self.elements(&mut extents, Self::string)?),
            _ if dtype.is_float() => Literal::Float(self.elements(&mut extents, Self::float)?),
            _ => Literal::Int(self.elements(&mut extents, |c| c.integer(dtype))?),
        })
    }

    fn elements<T>(
        &mut self,
        extents: &mut [Option<u64>],
        one: impl Fn(&mut Self) -> Result<T, ParseError> + Copy,
    ) -> Result<Vec<T>, ParseError> {
        let mut elements = Vec::new();
        if extents.is_empty() {
            elements.push(one(self)?);
        } else {
            self.axis(0, extents, one, &mut elements)?;
        }
        Ok(elements)
    }

    /// Reads one slice of `axis`; the first slice settles an unknown extent.
    fn axis<T>(
        &mut self,
        axis: usize,
        extents: &mut [Option<u64>],
        one: impl Fn(&mut Self) -> Result<T, ParseError> + Copy,
        elements: &mut Vec<T>,
    ) -> Result<(), ParseError> {
        self.expect(b'[', "`[`")?;
        let mut found = 0;
        while !self.at(b']') {
            if found > 0 {
                self.expect(b',', "`,` or `]`")?;
            }
            if axis + 1 == extents.len() {
                elements.push(one(self)?);
            } else {
                self.axis(axis + 1, extents, one, elements)?;
            }
            found += 1;
        }
        let expected = *extents[axis].get_or_insert(found);
        if expected != found {
            return Err(self.error(self.start(), ParseErrorKind::Extent { axis, expected, found }));
        }
        self.advance().map(drop)
    }

    fn truth(&mut self) -> Result<bool, ParseError> {
        let truth = match self.slice() {
            "true" => true,
            "false" => false,
            _ => return Err(self.expected("`true` or `false`")),
        };
        self.advance()?;
        Ok(truth)
    }

    /// An integer; one of 64 unsigned bits keeps its bits.
    fn integer(&mut self, dtype: DataType) -> Result<i64, ParseError> {
        let start = self.start();
        let literal = self.number("an integer")?;
        match (literal.parse::<i128>(), dtype.integer_range()) {
            (Ok(value), Some((low, high))) if (low..=high).contains(&value) => Ok(value as i64),
            _ => {
                let literal = literal.to_owned();
                Err(self.error(start, ParseErrorKind::Integer { literal, dtype }))
            }
        }
    }

    fn float(&mut self) -> Result<f64, ParseError> {
        if !matches!(self.kind(), Kind::Number | Kind::Word) {
            return Err(self.expected("a floating-point number"));
        }
        let start = self.start();
        let literal = self.advance()?;
        float::parse(literal).map_err(|reason| {
            self.error(start, ParseErrorKind::Float { literal: literal.to_owned(), reason })
        })
    }

    fn string(&mut self) -> Result<String, ParseError> {
        if self.kind() != Kind::Text {
            return Err(self.expected("a string"));
        }
        let start = self.start();
        let quoted = self.advance()?;
        let raw = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        let mut string = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(position) = rest.find('\\') {
            string.push_str(&rest[..position]);
            let escaped = rest[position + 1..].chars().next().unwrap_or('\\');
            string.push(match escaped {
                '\\' | '"' => escaped,
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                _ => {
                    let offset = start + 1 + (raw.len() - rest.len()) + position;
                    return Err(self.error(offset, ParseErrorKind::UnknownEscape(escaped)));
                }
            });
            rest = &rest[position + 2..];
        }
        string.push_str(rest);
        Ok(string)
    }
}
